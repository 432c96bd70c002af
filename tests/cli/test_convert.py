"""Models of transformers in fairseq: with the converted weights, the same hidden states."""

import json
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sparse_adapter.cli import main
from sparse_adapter.cli.arguments import check_out
from sparse_adapter.errors import UsageError
from torch import Tensor, nn

from ..commands import run
from .conftest import TEXT, convert, load_fairseq

PAD = 1
WRAPPERS = [
    *(("bert", name) for name in ("BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForQuestionAnswering")),
    *(("roberta", name) for name in ("RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification")),
    *(("xlm-roberta", name) for name in ("XLMRobertaModel", "XLMRobertaForMaskedLM")),
    *(("bart", name) for name in ("BartModel", "BartForConditionalGeneration", "BartForSequenceClassification")),
    *(("mbart", name) for name in ("MBartModel", "MBartForConditionalGeneration")),
]
MASKED_LMS = {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM", "xlm-roberta": "XLMRobertaForMaskedLM"}
SEQ2SEQ = {"bart": "BartForConditionalGeneration", "mbart": "MBartForConditionalGeneration"}
ALL = MASKED_LMS | SEQ2SEQ


def rows_of(kind: str, tokenizer, task) -> Tensor:
    """transformers' row for each of fairseq's, by what the tokenizer and the dictionary call them."""
    if kind != "bert":
        return torch.arange(len(task.source_dictionary))
    names = {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
    symbols = task.source_dictionary.symbols
    return torch.tensor(tokenizer.convert_tokens_to_ids([names.get(symbol, symbol) for symbol in symbols]))


def batch(size: int, seed: int = 0) -> Tensor:
    """Three random sentences of fairseq's ids, padded on the right."""
    tokens = torch.randint(4, size, (3, 9), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0], tokens[0, 8], tokens[1, 5], tokens[2, 3] = 0, 2, 2, 2
    tokens[1, 6:], tokens[2, 4:] = PAD, PAD
    return tokens


@torch.no_grad()
def fairseq_states(model: nn.Module, tokens: Tensor, previous: Tensor | None = None) -> list[Tensor]:
    if previous is None:
        return [model(tokens, features_only=True)[0][tokens != PAD]]
    lengths = (tokens != PAD).sum(dim=1)
    encoded = model.encoder(tokens, lengths)["encoder_out"][0].transpose(0, 1)
    decoded, _ = model(tokens, lengths, previous, features_only=True)
    return [encoded[tokens != PAD], decoded[previous != PAD]]


@torch.no_grad()
def hf_states(model: nn.Module, tokens: Tensor, rows: Tensor, previous: Tensor | None = None) -> list[Tensor]:
    model, mask = getattr(model, model.base_model_prefix, model), (tokens != PAD).long()
    if previous is None:
        return [model(rows[tokens], mask).last_hidden_state[tokens != PAD]]
    output = model(rows[tokens], mask, rows[previous], (previous != PAD).long(), use_cache=False)
    return [output.encoder_last_hidden_state[tokens != PAD], output.last_hidden_state[previous != PAD]]


def distance(states: list[Tensor], expected: list[Tensor]) -> float:
    assert [x.shape for x in states] == [x.shape for x in expected]
    assert all(x.std() > 0.1 for x in expected)
    return max(float((x - y).abs().max()) for x, y in zip(states, expected, strict=True))


def check_parity(kind: str, folder, out: Path, **overrides: str) -> None:
    """Compare the hidden states of all stacks."""
    ours, task = load_fairseq(out, **overrides)
    rows = rows_of(kind, folder.tokenizer, task)
    tokens = batch(len(task.source_dictionary))
    previous = batch(len(task.source_dictionary), seed=1) if kind in SEQ2SEQ else None
    assert distance(fairseq_states(ours, tokens, previous), hf_states(folder.model, tokens, rows, previous)) < 1e-5


@pytest.mark.parametrize("kind, class_name", WRAPPERS)
def test_hidden_states_are_those_of_transformers(kind, class_name, make_folder, tmp_path):
    folder = make_folder(kind, class_name)
    convert(folder.path, tmp_path / "ours")
    has_lm_head = kind in SEQ2SEQ or class_name.endswith(("MaskedLM", "PreTraining"))
    plugin = {"arch": f"sparse_adapter_{kind.replace('xlm-', '')}_base", "adapter": "none"}
    overrides = {} if has_lm_head else plugin
    check_parity(kind, folder, tmp_path / "ours", **overrides)


@pytest.mark.parametrize("kind", ALL)
@torch.no_grad()
def test_logits_are_those_of_transformers(kind, make_folder, tmp_path):
    """The LM heads: those of the encoders have a bias for each row, which BERT's permutation moves too."""
    folder = make_folder(kind, ALL[kind])
    convert(folder.path, tmp_path / "ours")
    ours, task = load_fairseq(tmp_path / "ours")
    rows, tokens = rows_of(kind, folder.tokenizer, task), batch(len(task.source_dictionary))
    decoder = {"decoder_input_ids": rows[tokens]} if kind in SEQ2SEQ else {}
    theirs = folder.model(rows[tokens], (tokens != PAD).long(), **decoder).logits[..., rows][tokens != PAD]
    inputs = (tokens, (tokens != PAD).sum(dim=1), tokens) if kind in SEQ2SEQ else (tokens,)
    assert distance([ours(*inputs)[0][tokens != PAD]], [theirs]) < 1e-5


def test_pairs_and_pooled_output_of_bert(make_folder, tmp_path):
    """Segments from the place of [SEP], and the pooler as the first layer of a classification head."""
    folder = make_folder("bert", "BertModel")
    convert(folder.path, tmp_path / "ours")
    ours, task = load_fairseq(tmp_path / "ours")
    rows, tokens = rows_of("bert", folder.tokenizer, task), batch(len(task.source_dictionary))
    tokens[0, 4] = tokens[1, 3] = tokens[2, 1] = task.source_dictionary.eos()
    segments = torch.tensor([[0] * 5 + [1] * 4, [0] * 4 + [1] * 2 + [0] * 3, [0, 0, 1, 1] + [0] * 5])
    pooler = weights(tmp_path / "ours")
    with torch.no_grad():
        theirs = folder.model(rows[tokens], (tokens != PAD).long(), segments)
        features, _ = ours(tokens, features_only=True)
        pooled = torch.tanh(features[:, 0] @ pooler["pooler.dense.weight"].T + pooler["pooler.dense.bias"])
    assert distance([features[tokens != PAD]], [theirs.last_hidden_state[tokens != PAD]]) < 1e-5
    assert distance([pooled], [theirs.pooler_output]) < 1e-5

    ours.register_classification_head("head", num_classes=3)
    head = ours.classification_heads["head"].state_dict()
    other_task = {f"classification_heads.head.{key}": torch.ones_like(value) for key, value in head.items()}
    ours.register_classification_head("head", num_classes=2)
    for state in (pooler, pooler | other_task):
        nn.init.zeros_(ours.classification_heads["head"].dense.weight)
        ours.load_state_dict(dict(state), strict=True, model_cfg=ours.args)
        assert torch.equal(ours.classification_heads["head"].dense.weight, folder.model.pooler.dense.weight)
        assert torch.equal(ours.classification_heads["head"].dense.bias, folder.model.pooler.dense.bias)


def test_heads_do_not_start_as_a_pooler_that_was_never_trained(make_folder, tmp_path):
    convert(make_folder("bert", "BertModel").path, tmp_path / "ours")
    ours, _ = load_fairseq(tmp_path / "ours")
    ours.register_classification_head("head", num_classes=2)
    before = {key: value.clone() for key, value in ours.classification_heads["head"].state_dict().items()}
    untrained = weights(tmp_path / "ours") | {"pooler.dense.bias": torch.zeros(32)}
    ours.load_state_dict(untrained, strict=True, model_cfg=ours.args)
    after = ours.classification_heads["head"].state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[key], value) for key, value in before.items())


def weights(out: Path) -> dict[str, Tensor]:
    return torch.load(out / "model.pt", weights_only=True)["model"]


@pytest.mark.parametrize("kind", ["bert", "roberta", "bart"])
@pytest.mark.parametrize("form", ["sharded", "pickle", "sharded pickle", "old names"])
def test_forms_of_the_weights(form, kind, make_folder, tmp_path):
    folder = make_folder(kind, ALL[kind])
    convert(folder.path, tmp_path / "expected")
    (folder.path / "model.safetensors").unlink()
    if form == "old names":  # of the first files of BERT, which came from TensorFlow
        state = {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for key, value in folder.model.state_dict().items()
        }
        torch.save(state, folder.path / "pytorch_model.bin")
    elif form == "pickle":
        torch.save(folder.model.state_dict(), folder.path / "pytorch_model.bin")
    else:
        folder.model.save_pretrained(folder.path, max_shard_size="20KB", safe_serialization=form == "sharded")
        assert len(list(folder.path.glob("*-of-*"))) > 1
    convert(folder.path, tmp_path / "ours")
    ours, expected = weights(tmp_path / "ours"), weights(tmp_path / "expected")
    assert ours.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in ours.items())


@pytest.mark.parametrize("kind", ALL)
def test_the_keys_are_those_of_fairseq_and_the_file_is_loaded_safely(kind, make_folder, tmp_path):
    folder = make_folder(kind, ALL[kind])
    convert(folder.path, tmp_path / "ours")
    state = torch.load(tmp_path / "ours" / "model.pt", weights_only=True)
    assert isinstance(state["args"], Namespace)
    assert (
        state["args"].arch
        == {
            "bert": "sparse_adapter_bert_base",
            "roberta": "roberta_base",
            "xlm-roberta": "roberta_base",
            "bart": "bart_base",
            "mbart": "mbart_large",
        }[kind]
    )
    keys = set(load_fairseq(tmp_path / "ours")[0].state_dict())
    assert set(state["model"]) == keys
    tied = {"encoder.lm_head.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight"} & keys
    size = sum(value.numel() for key, value in state["model"].items() if key not in tied)
    assert (tmp_path / "ours" / "model.pt").stat().st_size < 4 * size + 60_000  # tied matrices are there once


@pytest.mark.parametrize("dtype, becomes", [(torch.float16, torch.float16), (torch.bfloat16, torch.float32)])
def test_half_precision(dtype, becomes, make_folder, tmp_path, capsys):
    folder = make_folder("bart", "BartModel", dtype=dtype)
    convert(folder.path, tmp_path / "ours")
    state = weights(tmp_path / "ours")
    assert {value.dtype for key, value in state.items() if not key.endswith("version")} == {becomes}
    assert torch.equal(state["encoder.embed_tokens.weight"], folder.model.shared.weight.to(becomes))
    first = capsys.readouterr().out.splitlines()[0]
    assert "float16" in first if becomes is dtype else "in float32 (of bfloat16)" in first


def test_half_precision_with_a_segment(make_folder, tmp_path):
    """The sum of positions and segment is not rounded: with both in single precision, the states are the same."""
    folder = make_folder("roberta", "RobertaForMaskedLM", dtype=torch.float16)
    convert(folder.path, tmp_path / "ours")
    folder.model.float()
    check_parity("roberta", folder, tmp_path / "ours")


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "mbart"])
def test_without_a_vocabulary(kind, make_folder, tmp_path, capsys):
    folder = make_folder(kind, ALL[kind], tokenizer=False)
    convert(folder.path, tmp_path / "ours")
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["model.pt"]
    files = {"roberta": "vocab.json and merges.txt or tokenizer.json of byte-level BPE, and no sentencepiece.bpe.model"}
    missing = files.get(kind, "sentencepiece.bpe.model")
    assert f"no dict.txt: {folder.path} has no {missing}; rows keep their order" in capsys.readouterr().out
    state = weights(tmp_path / "ours")
    embedding = next(value for key, value in state.items() if key.endswith("embed_tokens.weight"))
    assert torch.equal(embedding, folder.model.get_input_embeddings().weight)


def test_a_roberta_with_the_pieces_of_xlmr(make_folder, tmp_path):
    """Some models of XLM-R's kind say that they are RoBERTa."""
    folder = make_folder("xlm-roberta", "XLMRobertaForMaskedLM")
    edited(folder, model_type="roberta")
    convert(folder.path, tmp_path / "ours")
    assert (tmp_path / "ours" / "sentencepiece.bpe.model").is_file()
    check_parity("xlm-roberta", folder, tmp_path / "ours")


def test_bert_without_wordpieces(make_folder, tmp_path):
    """Its rows would keep an order that is no dictionary's."""
    folder = make_folder("bert", ALL["bert"], tokenizer=False)
    assert "has no WordPieces" in refusal(folder.path, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("kind", ALL)
def test_transformers_is_not_needed(kind, make_folder, monkeypatch, tmp_path):
    folder = make_folder(kind, ALL[kind])
    for name in [name for name in sys.modules if name.partition(".")[0] in ("transformers", "tokenizers")]:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    convert(folder.path, tmp_path / "ours")
    assert (tmp_path / "ours" / "dict.txt").is_file()


def test_heads_of_tasks_are_named_and_left_out(make_folder, tmp_path, capsys):
    folder = make_folder("roberta", "RobertaForSequenceClassification")
    convert(folder.path, tmp_path / "ours")
    out = capsys.readouterr().out
    assert "left out, as fairseq has no place for them: classifier.dense.bias, " in out
    assert "there is no LM head" in out
    assert not any("lm_head" in key or "classifi" in key for key in weights(tmp_path / "ours"))


def test_a_resized_embedding(make_folder, tmp_path):
    """Rows that no token has get symbols that never occur."""
    for kind in ("bert", "roberta"):
        folder = make_folder(kind, MASKED_LMS[kind], rows=400)
        convert(folder.path, tmp_path / kind)
        model, task = load_fairseq(tmp_path / kind)
        assert len(task.source_dictionary) == len(model.encoder.sentence_encoder.embed_tokens.weight) == 400


def edited(folder, **settings) -> Path:
    config = json.loads((folder.path / "config.json").read_text()) | settings
    (folder.path / "config.json").write_text(json.dumps(config))
    return folder.path


def refusal(*arguments) -> str:
    with pytest.raises(UsageError) as error:
        convert(*arguments)
    return str(error.value)


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        ("bert", {"model_type": None}, "no model_type: add one of bert, roberta"),
        ("bert", {"model_type": ["bert"]}, "is not supported: bert, roberta, xlm-roberta"),
        ("bert", {"model_type": "distilbert"}, "model_type distilbert is not supported: bert, roberta, xlm-roberta"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type relative_key"),
        ("roberta", {"position_embedding_type": "relative_key_query"}, "position_embedding_type relative_key_query"),
        ("roberta", {"hidden_act": "silu"}, "hidden_act silu, and fairseq has gelu"),
        ("bart", {"activation_function": "swish"}, "activation_function swish, and fairseq has gelu"),
        ("bert", {"is_decoder": True}, "is_decoder True"),
        ("bert", {"type_vocab_size": 3}, "type_vocab_size 3"),
        ("bert", {"layer_norm_eps": 1e-3}, "layer_norm_eps 0.001"),
        ("bert", {"layer_norm_eps": "1e-12"}, "layer_norm_eps '1e-12', which is no number"),
        ("bert", {"hidden_size": None}, "hidden_size None"),
        ("bert", {"hidden_size": 64}, "has shape"),
        ("bert", {"num_attention_heads": 5}, "do not divide"),
        ("bert", {"num_hidden_layers": 3}, "lacks 16 tensors of BERT (first: encoder.layer.2."),
        ("bert", {"num_hidden_layers": 1}, "has 16 tensors that BERT has not (first: encoder.layer.1."),
        ("roberta", {"pad_token_id": 0}, "pad_token_id 0"),
        ("bart", {"eos_token_id": 3}, "eos_token_id 3, and fairseq's BART has 2"),
        ("bart", {"normalize_before": True}, "normalize_before True"),
        ("bart", {"quantization_config": {"bits": 8}}, "quantised"),
        ("bart", {"dropout": "none"}, "dropout 'none', which is no number"),
    ],
)
def test_models_that_fairseq_does_not_have(kind, settings, message, make_folder, tmp_path):
    folder = edited(make_folder(kind, ALL[kind]), **settings)
    assert message in refusal(folder, tmp_path / "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("kind", ["bert", "roberta", "bart"])
def test_untied_embeddings(kind, make_folder, tmp_path):
    """Refused if there is a matrix of its own; without an LM head the setting does not matter."""
    folder = make_folder(kind, ALL[kind], tie_word_embeddings=False)
    message = refusal(folder.path, tmp_path / "ours")
    assert "tie_word_embeddings false" in message
    assert ("shared.weight" if kind == "bart" else "embeddings.weight") in message
    if kind != "bart":
        bare = make_folder(kind, {"bert": "BertModel", "roberta": "RobertaModel"}[kind], tie_word_embeddings=False)
        convert(bare.path, tmp_path / "ours")


def test_a_copy_that_transformers_does_not_read(make_folder, tmp_path, capsys):
    """Tied in the configuration, and other numbers in the file."""
    folder = make_folder("roberta", ALL["roberta"])
    file = folder.path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.decoder.weight"] = torch.zeros_like(tensors["roberta.embeddings.word_embeddings.weight"])
    save_file(tensors, file, metadata={"format": "pt"})
    convert(folder.path, tmp_path / "ours")
    said = capsys.readouterr().out
    assert "note: lm_head.decoder.weight differs from embeddings.word_embeddings.weight, and is left out" in said
    check_parity("roberta", folder, tmp_path / "ours")


def test_damaged_and_dangerous_folders(make_folder, tmp_path):
    folder, out = make_folder("bert", "BertModel").path, tmp_path / "ours"
    assert "is not a model folder of transformers" in refusal(tmp_path / "none", out)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors is damaged" in refusal(folder, out)
    weights.unlink()
    assert "has no weights" in refusal(folder, out)
    for files in (["model.safetensors"], {"a": 1}):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
        assert "has no weight_map of tensors and files" in refusal(folder, out)
    (folder / "model.safetensors.index.json").unlink()
    torch.save({"model": subprocess.Popen}, folder / "pytorch_model.bin")
    assert "nothing in it was run" in refusal(folder, out)
    (folder / "pytorch_model.bin").write_bytes(b"PK")
    assert "damaged" in refusal(folder, out) or "nothing in it was run" in refusal(folder, out)
    for name in ("pytorch_model.bin", "model.safetensors"):
        (folder / name).write_bytes(b"")
        assert f"{name} is damaged (" in refusal(folder, out)
        (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        assert f"{name} holds no weights but Git LFS's pointer to them" in refusal(folder, out)
    (folder / "config.json").write_text("{")
    assert "is no JSON" in refusal(folder, out)
    assert not out.exists()


@pytest.mark.parametrize("file", ["out.pt", "new folder/out"])
def test_a_folder_that_is_not_writable_is_told_before_any_work(file, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UsageError, match=f"the folder {tmp_path} is not writable"):
        check_out(tmp_path / file, force=False)


def test_a_full_disk_is_one_line(monkeypatch, tmp_path):
    """PyTorch's own writer does not raise an OSError; its reader says some of the same words."""
    monkeypatch.setattr("sparse_adapter.cli.convert.run", lambda args: torch.save(torch.ones(99999), "/dev/full"))
    with pytest.raises(SystemExit, match="error: the file could not be written, is the disk full"):
        main(["convert", str(tmp_path), str(tmp_path / "out")])
    for names in (["foo.txt"], ["a/foo", "b/foo"]):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
            for name in names:
                file.writestr(name, "foo")
        with pytest.raises(SystemExit, match="error: .*other.zip is not a complete fairseq checkpoint"):
            main(["info", str(tmp_path / "other.zip")])


def test_only_a_converted_folder_is_replaced(make_folder, tmp_path):
    folder, out = make_folder("bert", "BertModel").path, tmp_path / "ours"
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    convert(folder, out)
    assert (out / "tokenizer_config.json").exists()
    assert "--force" in refusal(folder, out)
    (out / "dict.txt").write_text("old")
    convert(folder, out, "--force")
    assert (out / "dict.txt").read_text() != "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]
    (out / "mine").touch()
    assert "holds mine" in refusal(folder, out, "--force")
    assert f"is where {folder} is" in refusal(folder, folder, "--force")
    (tmp_path / "link").symlink_to(folder)
    assert f"is where {folder} is" in refusal(folder, tmp_path / "link", "--force")
    assert (out / "mine").exists() and (folder / "config.json").exists()


def test_the_printed_options_train(make_folder, tmp_path):
    """The commands of a user: convert, train LoRA with the options that were printed, convert back."""

    def succeed(command: str, *arguments) -> str:
        result = run(command, *arguments)
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
        return result.stdout + result.stderr

    folder, out, data = (
        make_folder("bart", "BartModel", activation_function="relu"),
        tmp_path / "ours",
        tmp_path / "data",
    )
    printed = succeed("sparse-adapter", "convert", folder.path, out)
    options = next(line for line in printed.splitlines() if line.startswith("train with ")).split()[2:]
    assert "--activation-fn relu" in " ".join(options)
    for split, lines in (("train", TEXT * 8), ("valid", TEXT)):
        for side in ("source", "target"):
            tokens = [" ".join(map(str, folder.tokenizer(line, add_special_tokens=False).input_ids)) for line in lines]
            (tmp_path / f"{split}.{side}").write_text("\n".join(tokens) + "\n")
    prefs = ["--trainpref", tmp_path / "train", "--validpref", tmp_path / "valid", "--destdir", data]
    sides = ["--source-lang", "source", "--target-lang", "target"]
    succeed(
        "fairseq-preprocess", *sides, *prefs, "--srcdict", out / "dict.txt", "--joined-dictionary", "--workers", "1"
    )
    log = succeed(
        "fairseq-train",
        *(data, "--user-dir", "user_dir", "--task", "sparse_adapter_translation", *sides, *options),
        *("--criterion", "cross_entropy", "--optimizer", "adam", "--max-tokens", "256", "--max-update", "2", "--cpu"),
        *("--adapter", "lora", "--lora-rank", "4", "--lr", "0.1", "--num-workers", "0", "--save-dir"),
        *(tmp_path / "run", "--disable-validation"),
    )
    assert "loading pretrained model from" in log
    succeed("sparse-adapter", "convert", tmp_path / "run" / "checkpoint_last.pt", tmp_path / "back", "--to", "hf")
    # fairseq has no mask in a dictionary for translation, and leaves out its row.
    back, before = load_file(tmp_path / "back" / "model.safetensors"), folder.model.state_dict()
    assert torch.equal(back["model.shared.weight"], before["shared.weight"][:-1])
    changed = {key for key, value in before.items() if "layers" in key and not torch.equal(value, back[f"model.{key}"])}
    assert changed and all("_proj.weight" in key for key in changed)
