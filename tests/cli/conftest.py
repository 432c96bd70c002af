"""Tiny models of transformers with random weights and real tokenizers, as folders on disk."""

import copy
import dataclasses
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch
from fairseq.checkpoint_utils import load_model_ensemble_and_task
from sparse_adapter.cli import parser
from torch import Tensor, nn

TEXT = ["the quick brown fox jumps over the lazy dog", "a small model reads a long sentence", "quick reading helps"]
LENGTH = 40  # positions that a token can have
SIZES = {"vocab_size": 0, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
BART_SIZES = {
    "d_model": 32,
    **{f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in [("layers", 2), ("ffn_dim", 64)]},
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": LENGTH,
}


@pytest.fixture(scope="session")
def hf():
    return pytest.importorskip("transformers", reason="needs transformers, of the extra peers")


@dataclasses.dataclass
class Folder:
    """A model of transformers, its tokenizer and where they lie."""

    path: Path
    model: nn.Module
    tokenizer: object


def convert(*arguments) -> None:
    """What the command does, without its exit on errors."""
    args = parser().parse_args(["convert", *map(str, arguments)])
    args.run(args)


def load_fairseq(folder: Path, **overrides: str) -> tuple[nn.Module, object]:
    """fairseq's model and task of a converted folder, as its commands load them."""
    (model,), _, task = load_model_ensemble_and_task([str(folder / "model.pt")], {"data": str(folder)} | overrides)
    return model.eval(), task


@pytest.fixture(scope="session")
def wordpieces(hf, tmp_path_factory) -> Path:
    """A vocab.txt whose special tokens stand where BERT's do: not at the beginning."""
    folder = tmp_path_factory.mktemp("wordpieces")
    words = sorted({word for line in TEXT for word in line.split()} - {"a", "reading", "helps"})
    letters = sorted({letter for line in TEXT for letter in line} - {" "})
    unused = [f"[unused{i}]" for i in range(3)]
    pieces = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words, *(f"##{x}" for x in letters)]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return folder / "vocab.txt"


@pytest.fixture(scope="session")
def byte_bpe(hf, tmp_path_factory) -> Path:
    """vocab.json and merges.txt with the special tokens where RoBERTa has them."""
    tokenizers = pytest.importorskip("tokenizers", reason="comes with transformers")
    folder = tmp_path_factory.mktemp("byte_bpe")
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXT * 3, vocab_size=290, min_frequency=2)
    tokenizer.save_model(str(folder))
    learnt = json.loads((folder / "vocab.json").read_text())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(learnt, key=learnt.get), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    return folder


@pytest.fixture(scope="session")
def pieces(tmp_path_factory) -> Path:
    """A SentencePiece model as XLM-R's and mBART's."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("\n".join(TEXT))
    prefix = folder / "sentencepiece.bpe"
    sentencepiece.SentencePieceTrainer.Train(
        input=str(folder / "text"), model_prefix=str(prefix), vocab_size=36, minloglevel=2
    )
    return folder / "sentencepiece.bpe.model"


@pytest.fixture(scope="session")
def tokenizers(hf, wordpieces, byte_bpe, pieces) -> dict[str, Callable[[], object]]:
    bpe = str(byte_bpe / "vocab.json"), str(byte_bpe / "merges.txt")
    return {
        "bert": lambda: hf.BertTokenizer(str(wordpieces)),
        "roberta": lambda: hf.RobertaTokenizer(*bpe),
        "xlm-roberta": lambda: hf.XLMRobertaTokenizer(str(pieces)),
        "bart": lambda: hf.BartTokenizer(*bpe),
        "mbart": lambda: hf.MBartTokenizer(str(pieces), src_lang="en_XX"),
    }


def configuration(hf, kind: str, rows: int, **settings):
    """A tiny configuration with the settings that the published models of the kind have."""
    roberta = SIZES | {"max_position_embeddings": LENGTH + 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    defaults = {
        "bert": SIZES | {"max_position_embeddings": LENGTH},
        "roberta": roberta,
        "xlm-roberta": roberta,
        "bart": BART_SIZES,
        "mbart": BART_SIZES | {"scale_embedding": True},
    }[kind]
    return hf.AutoConfig.for_model(kind, **(defaults | {"vocab_size": rows} | settings))


@torch.no_grad()
def perturb(model: nn.Module) -> nn.Module:
    """Move every parameter, those of LayerNorms and biases too, far enough to be missed."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture
def make_folder(hf, tokenizers, tmp_path):
    """``make_folder(kind, class, **settings of the configuration)``: a folder that transformers wrote."""

    def make(kind: str, class_name: str, tokenizer: bool = True, dtype=torch.float32, **settings) -> Folder:
        own = tokenizers[kind]()
        config = configuration(hf, kind, settings.pop("rows", len(own)), **settings)
        torch.manual_seed(0)
        model = perturb(getattr(hf, class_name)(config)).to(dtype)
        path = tmp_path / "theirs"
        model.save_pretrained(path)
        if tokenizer:
            own.save_pretrained(path)
        return Folder(path, model, own)

    return make


@pytest.fixture
def namespace_checkpoint(tmp_path):
    """``write(args, tensors)``: a fairseq checkpoint of the published layout."""

    def write(args: dict, tensors: dict[str, Tensor], name: str = "model.pt") -> Path:
        history = [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {"best": None}, "num_updates": 0}]
        extra = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "val_loss": None}
        state = {"args": Namespace(**args), "model": tensors, "optimizer_history": history, "extra_state": extra}
        torch.save(copy.deepcopy(state), tmp_path / name)
        return tmp_path / name

    return write
