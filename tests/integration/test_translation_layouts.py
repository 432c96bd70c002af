"""Published translation models as they are: tiny random weights in the layouts of wmt19.en-de and mbart.cc25.

Both are of 2019: arguments in place of a configuration, torch's old format, keys that fairseq has renamed since.
"""

import dataclasses
import re
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_REGISTRY
from sparse_adapter.checkpoint.loading import read_state
from sparse_adapter.checkpoint.rebuild import rebuild
from sparse_adapter.models.architectures import PREFIX
from sparse_adapter.modules import is_adapter_key
from sparse_adapter.rouge import Rouge
from sparse_adapter.serving import Translator

from ..commands import REPOSITORY, run
from .conftest import SIZES, error_line, succeed, write_corpus

USER_DIR = ["--user-dir", str(REPOSITORY / "user_dir"), "--cpu"]
DECODING = ["--beam", "3", "--max-len-b", "12"]
SPARSE = ["--adapter-bottleneck", "8", "--pruner", "snip", "--sparsity", "0.4", "--prune-batches", "2"]
SHORT = '{"beam": 2, "max_len_b": 8}'
BLEU = ["--eval-bleu", "--eval-bleu-args", SHORT, "--best-checkpoint-metric", "bleu"]
ROUGE = ["--eval-rouge", "--eval-rouge-args", SHORT]
MBART_LANGUAGES = ["ar_AR", "source", "target", "zh_CN"]
OLD = {"raw_text": False, "lazy_load": False, "left_pad_source": "True", "left_pad_target": "False", "fp16": True}
OLD |= {"criterion": "label_smoothed_cross_entropy", "label_smoothing": 0.1, "ddp_backend": "c10d", "lr": [0.0007]}
OLD |= {"optimizer": "adam", "adam_betas": "(0.9, 0.98)", "lr_scheduler": "inverse_sqrt", "max_sentences": None}
OLD |= {"train_subset": "train", "valid_subset": "valid", "data": "/home/author/data"}


@dataclasses.dataclass
class Published:
    """A published model, data binarised with its dictionaries, and what fairseq's commands need to know of it."""

    data: Path
    file: Path
    task: list[str]
    model: list[str]

    def train(self, save_dir: Path, *extra: str):
        steps = ["--optimizer", "adam", "--lr", "0.003", "--max-tokens", "256", "--max-update", "2"]
        steps += ["--criterion", "label_smoothed_cross_entropy", "--num-workers", "0", "--log-format", "simple"]
        start = ["--finetune-from-model", str(self.file), "--dropout", "0"]
        start += ["--no-epoch-checkpoints", "--save-dir", str(save_dir)]
        return run("fairseq-train", str(self.data), *USER_DIR, *self.task, *self.model, *steps, *start, *SPARSE, *extra)

    def generate(self, file: Path, command: str = "fairseq-generate", **kwargs) -> dict[str, str]:
        arguments = [str(self.data), *USER_DIR, *self.task, "--path", str(file), *DECODING]
        output = succeed(run(command, *arguments, **kwargs))
        return dict(re.findall(r"^H-(\d+)\t\S+\t(.*)$", output, re.MULTILINE))


def binarise(folder: Path, *options: str) -> Path:
    for seed, split in enumerate(("train", "valid", "test")):
        write_corpus(folder, split, 20, seed)
    prefixes = [x for split in ("train", "valid", "test") for x in (f"--{split}pref", str(folder / split))]
    data = folder / "data"
    succeed(run("fairseq-preprocess", "-s", "source", "-t", "target", *prefixes, *options, "--destdir", str(data)))
    return data


def publish(path: Path, args: dict, dictionaries: list[Dictionary], upgrade) -> None:
    """Save a random stock model of these arguments as fairseq did in 2019; ``upgrade`` makes its keys older."""
    args = Namespace(**args, **OLD, source_lang="source", target_lang="target")
    sizes = zip((x.removeprefix("--").replace("-", "_") for x in SIZES[::2]), SIZES[1::2], strict=True)
    for name, size in sizes:
        setattr(args, name, int(size))
    ARCH_CONFIG_REGISTRY[args.arch](args)
    torch.manual_seed(1)
    task = SimpleNamespace(source_dictionary=dictionaries[0], target_dictionary=dictionaries[1])
    model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
    state = upgrade({key: value + 0.01 for key, value in model.state_dict().items()})
    history = {"criterion_name": "LabelSmoothedCrossEntropyCriterion", "optimizer_name": "FP16Optimizer"}
    history |= {"best_loss": 2.0, "lr_scheduler_state": {"best": 2.0}, "num_updates": 300}
    extra = {"epoch": 3, "batch_offset": 0, "val_loss": 2.0}
    checkpoint = {"args": args, "model": state, "optimizer_history": [history], "extra_state": extra}
    torch.save(checkpoint | {"last_optimizer_state": None}, path, _use_new_zipfile_serialization=False)


def with_versions(state: dict) -> dict:
    return state | {f"{stack}.version": torch.Tensor([3]) for stack in ("encoder", "decoder")}


def of_wmt19(state: dict) -> dict:
    """Positions are not saved, but a dummy is; attention's projections are one matrix; the output has no layer."""
    state = with_versions(state)
    for stack in ("encoder", "decoder"):
        state[f"{stack}.embed_positions._float_tensor"] = torch.zeros(1)
    for key in [key for key in state if ".q_proj." in key]:
        names = [key.replace(".q_proj.", f".{name}_proj.") for name in "qkv"]
        state[key.replace(".q_proj.", ".in_proj_")] = torch.cat([state.pop(name) for name in names])
    output, embedding = state.pop("decoder.output_projection.weight"), state["decoder.embed_tokens.weight"]
    if not torch.equal(output, embedding):
        state["decoder.embed_out"] = output
    return state


@pytest.fixture(scope="module", params=["separate", "joined"])
def wmt19(request, tmp_path_factory) -> Published:
    folder = tmp_path_factory.mktemp(f"wmt19-{request.param}")
    joined = ["--joined-dictionary"] if request.param == "joined" else []
    data = binarise(folder, *joined)
    dictionaries = [Dictionary.load(str(data / f"dict.{name}.txt")) for name in ("source", "target")]
    args = {"arch": "transformer_wmt_en_de_big", "task": "translation", "share_all_embeddings": bool(joined)}
    publish(folder / "model.pt", args, dictionaries, of_wmt19)
    shared = ["--share-all-embeddings"] if joined else []
    task = ["--task", "sparse_adapter_translation", "-s", "source", "-t", "target"]
    model = ["--arch", "sparse_adapter_transformer_wmt_en_de_big", *SIZES, *shared]
    return Published(data, folder / "model.pt", task, model)


@pytest.fixture(scope="module", params=["with versions", "without"])
def mbart(request, tmp_path_factory) -> Published:
    """Pre-LN with final layer norms; the file of the dictionary lacks the languages and <mask>."""
    folder = tmp_path_factory.mktemp("mbart")
    data = binarise(folder, "--joined-dictionary")
    dictionary = Dictionary.load(str(data / "dict.source.txt"))
    for symbol in [f"[{language}]" for language in MBART_LANGUAGES] + ["<mask>"]:
        dictionary.add_symbol(symbol)
    before = {f"{stack}_normalize_before": True for stack in ("encoder", "decoder")}
    args = {"arch": "mbart_large", "task": "multilingual_denoising", "langs": ",".join(MBART_LANGUAGES), **before}

    def plain(state: dict) -> dict:
        return {key: value for key, value in state.items() if not key.endswith(".version")}

    publish(folder / "model.pt", args, [dictionary] * 2, with_versions if request.param == "with versions" else plain)
    task = ["--task", "sparse_adapter_translation_from_pretrained_bart", "--langs", ",".join(MBART_LANGUAGES)]
    flags = ["--encoder-normalize-before", "--decoder-normalize-before"]
    model = ["--arch", "sparse_adapter_mbart_large", *SIZES, *flags]
    return Published(data, folder / "model.pt", [*task, "-s", "source", "-t", "target"], model)


def published_tensors(state: dict) -> dict:
    """The tensors of a file by today's keys."""
    tensors = {}
    for key, value in state.items():
        if ".in_proj_" in key:
            names = [key.replace(".in_proj_", f".{name}_proj.") for name in "qkv"]
            tensors |= dict(zip(names, value.chunk(3), strict=True))
        elif not key.endswith(("version", "_float_tensor")):
            tensors[key.replace("decoder.embed_out", "decoder.output_projection.weight")] = value
    return tensors


def check_a_run(published: Published, folder: Path) -> dict[str, str]:
    """Train adapter-only and whole: the backbone is that of the file, and both decode the same. Returns what."""
    only, whole = folder / "only" / "checkpoint_last.pt", folder / "whole" / "checkpoint_last.pt"
    succeed(published.train(only.parent, "--adapter-only-checkpoints"))
    succeed(published.train(whole.parent))
    assert all(is_adapter_key(key) for key in read_state(str(only))["model"])
    expected = published_tensors(read_state(str(published.file))["model"])
    own = {key: value for key, value in rebuild(read_state(str(only))).named_parameters() if not is_adapter_key(key)}
    assert own.keys() <= expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in own.items())
    hypotheses = published.generate(only)
    assert sorted(map(int, hypotheses)) == list(range(20))
    assert hypotheses == published.generate(whole)
    return hypotheses


def test_wmt19_loads_trains_and_decodes(wmt19, tmp_path):
    check_a_run(wmt19, tmp_path)
    assert len(wmt19.generate(wmt19.file)) == 20  # the backbone itself, by the name of its stock architecture


def test_mbart_loads_trains_and_decodes(mbart, tmp_path):
    hypotheses = check_a_run(mbart, tmp_path)
    assert not any("[" in text for text in hypotheses.values())  # the language's symbol ends a sentence
    model = rebuild(read_state(str(tmp_path / "only" / "checkpoint_last.pt")))
    assert model.encoder.layer_norm is not None and model.decoder.layer_norm is not None
    lines = (mbart.data.parent / "test.source").read_text()
    only = tmp_path / "only" / "checkpoint_last.pt"
    assert mbart.generate(only, "fairseq-interactive", input=lines) == hypotheses


def test_mbart_is_served(mbart, tmp_path):
    """As fairseq-generate decodes; its dictionaries and languages are those of the checkpoint."""
    file = tmp_path / "run" / "checkpoint_last.pt"
    succeed(mbart.train(file.parent, "--adapter-only-checkpoints"))
    lines = (mbart.data.parent / "test.source").read_text().splitlines()
    translator = Translator.load(mbart.file, {"x": file}, beam=3, max_len_b=12)
    paths = {"x": file}
    if "encoder.version" in read_state(str(mbart.file))["model"]:  # of others fairseq drops the final layer norms
        paths["none"] = mbart.file
    assert translator.model("none").encoder.layer_norm is not None
    for domain, path in paths.items():
        expected = mbart.generate(path)
        assert translator.translate(lines, domain) == [expected[str(i)] for i in range(20)]


@pytest.mark.parametrize("wmt19", ["joined"], indirect=True)
@pytest.mark.parametrize("mbart", ["without"], indirect=True)
def test_bleu_is_validated_and_survives_a_resume(wmt19, mbart, tmp_path):
    for name, published in {"wmt19": wmt19, "mbart": mbart}.items():
        options = [*BLEU, "--maximize-best-checkpoint-metric", *ROUGE]
        first = succeed(published.train(tmp_path / name, *options, "--max-update", "2"))
        output = succeed(published.train(tmp_path / name, *options, "--max-update", "4"))
        before, (after, best) = (
            float(re.findall(r"\| bleu (\S+)", first)[-1]),
            map(float, re.findall(r"\| bleu (\S+) .*\| best_bleu (\S+)", output)[-1]),
        )
        assert best == max(before, after)
        assert "not pruned again" in output
        assert (tmp_path / name / "checkpoint_best.pt").is_file()
        check_rouge(
            published, tmp_path / name / "checkpoint_last.pt", float(re.findall(r"\| rouge1 (\S+)", output)[-1])
        )


def check_rouge(published: Published, file: Path, reported: float) -> None:
    """ROUGE-1 of a validation is that of what fairseq-generate writes, without the symbols of languages."""
    arguments = [str(published.data), *USER_DIR, *published.task, "--path", str(file), "--gen-subset", "valid"]
    output = succeed(run("fairseq-generate", *arguments, "--beam", "2", "--max-len-b", "8"))
    references = dict(re.findall(r"^T-(\d+)\t(.*)$", output, re.MULTILINE))
    hypotheses = dict(re.findall(r"^D-(\d+)\t\S+\t(.*)$", output, re.MULTILINE))
    rouge = Rouge()
    scores = [rouge.score(hypotheses[i], references[i].replace("[target]", ""))["rouge1"] for i in references]
    assert len(scores) == 20 and not any("[" in text for text in hypotheses.values())
    assert reported == pytest.approx(sum(scores) / 20, abs=2e-3) and reported > 0


def refused(published: Published, save_dir: Path, *extra: str) -> str:
    message = error_line(published.train(save_dir, *extra))
    assert not list(save_dir.glob("*"))
    return message


@pytest.mark.parametrize("wmt19", ["joined"], indirect=True)
@pytest.mark.parametrize("mbart", ["without"], indirect=True)
def test_what_cannot_work_is_refused_before_anything_is_written(wmt19, mbart, tmp_path):
    save_dir = tmp_path / "run"
    elsewhere = dataclasses.replace(wmt19, data=mbart.data, file=mbart.file)
    assert "has a dictionary of" in refused(elsewhere, save_dir)
    for langs, message in (
        ("ar_AR,source,target", "name all --langs"),  # one row less than the file has
        ("source,target", "name all --langs"),
        ("ar_AR,source,zh_CN", "the language target is not among --langs ar_AR,source,zh_CN"),
        ("source,target,source,zh_CN", "names a language twice"),
        ("", "--langs is missing"),
    ):
        assert message in refused(mbart, save_dir, "--langs", langs)


def test_every_size_of_fairseqs_transformer_has_one_with_adapters():
    sizes = set(ARCH_MODEL_INV_REGISTRY["transformer"])
    known = {"iwslt_de_en", "wmt_en_de", "wmt_en_de_big", "vaswani_wmt_en_de_big", "vaswani_wmt_en_fr_big", "tiny"}
    assert sizes >= {"transformer", *(f"transformer_{name}" for name in known)}
    assert {f"{PREFIX}{size}" for size in sizes} <= set(ARCH_MODEL_INV_REGISTRY[f"{PREFIX}transformer"])
    for size in sizes:
        stock, ours = Namespace(), Namespace()
        ARCH_CONFIG_REGISTRY[size](stock)
        ARCH_CONFIG_REGISTRY[f"{PREFIX}{size}"](ours)
        assert vars(ours).items() >= vars(stock).items()
