"""The way back: fairseq's RoBERTa and BART as folders that transformers loads."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import sparse_weights

from ..conftest import SIZES, randomize
from .conftest import LENGTH, TEXT, convert, load_fairseq
from .test_convert import batch, distance, fairseq_states, hf_states

CLASSES = {"roberta": "RobertaForMaskedLM", "bart": "BartForConditionalGeneration"}
MINI = Path(__file__).parents[2] / "examples" / "pretraining" / "bart_mini"


def states_agree(ours, theirs, size: int, seq2seq: bool) -> None:
    tokens, rows = batch(size), torch.arange(size)
    previous = batch(size, seed=1) if seq2seq else None
    assert distance(fairseq_states(ours, tokens, previous), hf_states(theirs, tokens, rows, previous)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", CLASSES)
def test_round_trip(kind, dtype, hf, make_folder, tmp_path):
    folder = make_folder(kind, CLASSES[kind], dtype=dtype)
    if kind == "roberta":  # published ones have zeros there, since fairseq has no segments
        folder.model.roberta.embeddings.token_type_embeddings.weight.data.zero_()
        folder.model.save_pretrained(folder.path)
    convert(folder.path, tmp_path / "ours")
    convert(tmp_path / "ours" / "model.pt", tmp_path / "again", "--to", "hf")
    before, after = (load_file(path / "model.safetensors") for path in (folder.path, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) and after[key].dtype == dtype for key, value in before.items())
    old, new = (json.loads((path / "config.json").read_text()) for path in (folder.path, tmp_path / "again"))
    assert {key: old.get(key, new[key]) for key in new} == new
    for auto in (hf.AutoModel, hf.AutoModelForMaskedLM):
        model, info = auto.from_pretrained(tmp_path / "again", output_loading_info=True)
        assert set(info["missing_keys"]) <= {"pooler.dense.weight", "pooler.dense.bias"}  # of RobertaModel
        assert not info["mismatched_keys"]
    assert type(model).__name__ == CLASSES[kind]
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "again", use_fast=False)
    assert tokenizer.model_max_length == model.config.max_position_embeddings - (2 if kind == "roberta" else 0)
    assert tokenizer(TEXT).input_ids == folder.tokenizer(TEXT).input_ids
    assert tokenizer.mask_token_id == folder.tokenizer.mask_token_id


def test_how_a_trained_bart_has_read_its_sources_is_told(make_folder, tmp_path, capsys):
    convert(make_folder("bart", "BartForConditionalGeneration").path, tmp_path / "ours")
    path, note = tmp_path / "ours" / "model.pt", "it was trained on sources without <s>"
    convert(path, tmp_path / "again", "--to", "hf")
    assert note not in capsys.readouterr().out
    state = torch.load(path, weights_only=False)
    state["args"].task, state["args"].source_lang, state["args"].target_lang = "translation", "source", "target"
    torch.save(state, path)
    convert(path, tmp_path / "trained", "--to", "hf")
    assert note in capsys.readouterr().out


def test_a_segment_that_is_not_zero(hf, make_folder, tmp_path):
    """It has become part of the positions: other tensors, the same states."""
    folder = make_folder("roberta", "RobertaForMaskedLM")
    convert(folder.path, tmp_path / "ours")
    convert(tmp_path / "ours" / "model.pt", tmp_path / "again", "--to", "hf")
    again, tokens = hf.RobertaForMaskedLM.from_pretrained(tmp_path / "again").eval(), batch(200)
    states = [hf_states(model, tokens, torch.arange(200)) for model in (again, folder.model)]
    assert distance(*states) < 1e-5


def sparse_checkpoint(arch: str, kind: str, make_folder, tmp_path, write, **arguments) -> tuple[Path, torch.nn.Module]:
    """A converted model with random adapters, half of whose weights are pruned, and its checkpoint."""
    convert(make_folder(kind, CLASSES[kind]).path, tmp_path / "ours")
    overrides = {"arch": arch, "adapter_bottleneck": 8, "lora_rank": 4} | arguments
    model, task = load_fairseq(tmp_path / "ours", **overrides)
    for weight in sparse_weights(randomize(model)).values():
        weight.prune_(torch.rand(weight.shape) < 0.5)
    args = torch.load(tmp_path / "ours" / "model.pt", weights_only=True)["args"]
    path = write(vars(args) | overrides, model.state_dict(), "sparse.pt")
    return path, model


@pytest.mark.parametrize("kind", CLASSES)
def test_lora_becomes_part_of_the_weights(kind, hf, make_folder, namespace_checkpoint, tmp_path, capsys):
    arch = f"sparse_adapter_{kind}_base"
    path, ours = sparse_checkpoint(arch, kind, make_folder, tmp_path, namespace_checkpoint, adapter="lora")
    plain, _ = load_fairseq(tmp_path / "ours")
    convert(path, tmp_path / "theirs again", "--to", "hf")
    assert "no tokenizer: " in capsys.readouterr().out
    theirs = hf.AutoModel.from_pretrained(tmp_path / "theirs again").eval()
    states_agree(ours, theirs, 200, kind == "bart")
    previous = batch(200, seed=1) if kind == "bart" else None
    states = [fairseq_states(model, batch(200), previous) for model in (ours, plain)]
    assert distance(*states) > 0.1


def test_the_tokenizer_may_lie_beside_the_backbone(make_folder, namespace_checkpoint, tmp_path):
    """As it does for every checkpoint in a folder of its own."""
    backbone = tmp_path / "ours" / "model.pt"
    arguments = {"adapter": "lora", "backbone": str(backbone)}
    path, _ = sparse_checkpoint(
        "sparse_adapter_roberta_base", "roberta", make_folder, tmp_path, namespace_checkpoint, **arguments
    )
    (tmp_path / "run").mkdir()
    moved = path.rename(tmp_path / "run" / "checkpoint_best.pt")
    convert(moved, tmp_path / "again", "--to", "hf")
    theirs = json.loads((tmp_path / "theirs" / "vocab.json").read_text())
    assert json.loads((tmp_path / "again" / "vocab.json").read_text()) == theirs


@pytest.mark.parametrize("adapter", ["houlsby", "lora+prefix"])
def test_other_adapters_are_refused(adapter, hf, make_folder, namespace_checkpoint, tmp_path):
    arch = "sparse_adapter_bart_base"
    path, _ = sparse_checkpoint(arch, "bart", make_folder, tmp_path, namespace_checkpoint, adapter=adapter)
    with pytest.raises(UsageError, match=f"no {adapter.removeprefix('lora+')} adapters: only LoRA can be merged"):
        convert(path, tmp_path / "again", "--to", "hf")
    assert not (tmp_path / "again").exists()


def test_a_real_pre_ln_bart_is_an_mbart(hf, tmp_path):
    """bart_mini, whose layers normalise before: transformers has that in mBART."""
    convert(MINI / "model.pt", tmp_path / "theirs", "--to", "hf")
    theirs, info = hf.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "theirs", output_loading_info=True, dtype=torch.float32
    )
    assert type(theirs).__name__ == "MBartForConditionalGeneration" and not info["missing_keys"]
    ours, task = load_fairseq(MINI)
    states_agree(ours, theirs.eval(), len(task.source_dictionary), seq2seq=True)

    convert(tmp_path / "theirs", tmp_path / "again")
    before, after = (torch.load(path / "model.pt", weights_only=True) for path in (MINI, tmp_path / "again"))
    # What both hold; the older file may have rows of sizes that a version marks.
    assert before["model"].keys() == after["model"].keys()
    assert all(
        torch.equal(value, after["model"][key]) for key, value in before["model"].items() if "version" not in key
    )


@pytest.mark.parametrize("target, start", [("ro_RO", True), ("", False)])
def test_the_decoder_of_a_trained_mbart_starts_with_its_language(target, start, hf, make_folder, tmp_path, capsys):
    folder = make_folder("mbart", "MBartForConditionalGeneration")
    convert(folder.path, tmp_path / "ours")
    state = torch.load(tmp_path / "ours" / "model.pt", weights_only=True)
    state["args"].task, state["args"].source_lang = "translation_from_pretrained_bart", "en_XX"
    state["args"].target_lang = target
    torch.save(state, tmp_path / "ours" / "model.pt")
    capsys.readouterr()
    convert(tmp_path / "ours" / "model.pt", tmp_path / "again", "--to", "hf")
    row = folder.tokenizer.convert_tokens_to_ids("ro_RO") if start else 2
    assert json.loads((tmp_path / "again" / "config.json").read_text())["decoder_start_token_id"] == row
    assert (f"decoder_start_token_id is {row:,}, the row of [ro_RO]" in capsys.readouterr().out) is start


def trained_mbart(folder: Path, languages: str) -> Path:
    state = torch.load(folder / "model.pt", weights_only=True)
    vars(state["args"]).update(task="translation_from_pretrained_bart", langs=languages, target_lang="ro_RO")
    torch.save(state, folder / "model.pt")
    return folder / "model.pt"


@pytest.mark.parametrize("rows, languages", [(80, None), (None, "en_XX,ro_RO")])
def test_the_row_of_a_language_is_that_of_the_dictionary(rows, languages, hf, make_folder, tmp_path, capsys):
    """Which has all languages, whichever are named, and may have more rows after them."""
    folder = make_folder("mbart", "MBartForConditionalGeneration", **({"rows": rows} if rows else {}))
    convert(folder.path, tmp_path / "ours")
    every = torch.load(tmp_path / "ours" / "model.pt", weights_only=True)["args"].langs
    checkpoint = trained_mbart(tmp_path / "ours", languages or every)
    convert(checkpoint, tmp_path / "again", "--to", "hf")
    row = folder.tokenizer.convert_tokens_to_ids("ro_RO")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["decoder_start_token_id"] == row
    # Without the dictionary, nothing says so.
    (tmp_path / "data").mkdir()
    (tmp_path / "ours" / "dict.txt").rename(tmp_path / "data" / "dict.ro_RO.txt")
    convert(checkpoint, tmp_path / "again", "--to", "hf", "--force")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["decoder_start_token_id"] == 2
    assert "says which row is [ro_RO]: set decoder_start_token_id" in capsys.readouterr().out
    # It may also be with the data.
    state = torch.load(checkpoint, weights_only=True)
    state["args"].data = str(tmp_path / "data")
    torch.save(state, checkpoint)
    convert(checkpoint, tmp_path / "again", "--to", "hf", "--force")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["decoder_start_token_id"] == row


def test_the_tokenizer_of_a_pre_ln_bart_loads(hf, make_folder, tmp_path):
    """transformers takes it for an mBART, whose own tokenizer is SentencePiece."""
    bart = make_folder("bart", "BartModel")
    convert(bart.path, tmp_path / "bart")
    folder = make_folder("mbart", "MBartForConditionalGeneration", tokenizer=False, rows=len(bart.tokenizer))
    for file in folder.path.glob("*.json"):
        if file.name not in ("config.json", "generation_config.json"):
            file.unlink()
    convert(folder.path, tmp_path / "ours")
    (tmp_path / "ours" / "model.pt").replace(tmp_path / "bart" / "model.pt")  # beside BART's dictionary
    convert(tmp_path / "bart" / "model.pt", tmp_path / "again", "--to", "hf")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["model_type"] == "mbart"
    again = hf.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again("a quick fox").input_ids == bart.tokenizer("a quick fox").input_ids


def test_without_an_lm_head(hf, make_folder, tmp_path):
    folder = make_folder("roberta", "RobertaModel", type_vocab_size=1)
    folder.model.embeddings.token_type_embeddings.weight.data.zero_()
    folder.model.save_pretrained(folder.path)
    convert(folder.path, tmp_path / "ours")
    convert(tmp_path / "ours" / "model.pt", tmp_path / "again", "--to", "hf")
    before, after = (load_file(path / "model.safetensors") for path in (folder.path, tmp_path / "again"))
    assert set(before) - set(after) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(torch.equal(value, before[key]) for key, value in after.items())


def roberta(hf, make_folder, tmp_path) -> tuple[dict, dict]:
    convert(make_folder("roberta", "RobertaForMaskedLM").path, tmp_path / "ours")
    state = torch.load(tmp_path / "ours" / "model.pt", weights_only=True)
    return vars(state["args"]), state["model"]


def test_a_file_of_before_2020(hf, make_folder, namespace_checkpoint, tmp_path):
    """As roberta.base was published: other names, and the projections of attention in one matrix."""
    args, weights = roberta(hf, make_folder, tmp_path)
    ours, _ = load_fairseq(tmp_path / "ours")
    old = {}
    for key, value in weights.items():
        if "_proj" not in key or "out_proj" in key:
            name = key.replace("encoder.", "decoder.", 1).replace("layernorm_embedding", "emb_layer_norm")
            old[name] = value
        elif "q_proj" in key:
            parts = [weights[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
            old[key.replace("encoder.", "decoder.", 1).replace("q_proj.", "in_proj_")] = torch.cat(parts)
    del old["decoder.sentence_encoder.version"]
    convert(namespace_checkpoint(args, old, "old.pt"), tmp_path / "again", "--to", "hf")
    states_agree(ours, hf.AutoModel.from_pretrained(tmp_path / "again").eval(), 200, seq2seq=False)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"arch": "transformer"}, "architecture transformer: --to hf writes RoBERTa, BART and mBART"),
        ({"encoder_normalize_before": True}, "do not fit the checkpoint's own arguments"),
        ({"untie_weights_roberta": True}, "another matrix than the embeddings"),
        ({"no_scale_embedding": False}, "no_scale_embedding False"),
        ({"activation_fn": "relu_squared"}, "activation relu_squared, which transformers has not"),
        ({"encoder_layers": 3}, "do not fit the checkpoint's own arguments"),
        ({"no_token_positional_embeddings": True}, "another model: this one lacks .*embed_positions.weight"),
    ],
)
def test_models_that_transformers_does_not_have(changes, message, hf, make_folder, namespace_checkpoint, tmp_path):
    args, weights = roberta(hf, make_folder, tmp_path)
    if "untie_weights_roberta" in changes:
        weights["encoder.lm_head.weight"] = weights["encoder.lm_head.weight"] + 1
    if "no_token_positional_embeddings" in changes:
        del weights["encoder.sentence_encoder.embed_positions.weight"]
    with pytest.raises(UsageError, match=message):
        convert(namespace_checkpoint(args | changes, weights, "other.pt"), tmp_path / "again", "--to", "hf")
    assert not (tmp_path / "again").exists()


def test_heads_are_left_out(hf, make_folder, namespace_checkpoint, tmp_path, capsys):
    """Those of tasks, and the LM head that RoBERTa with adapters has in place of a missing one."""
    args, weights = roberta(hf, make_folder, tmp_path)
    weights["classification_heads.mnli.dense.weight"] = torch.zeros(2, 2)
    for key in weights:
        if key.startswith("encoder.lm_head.") and key != "encoder.lm_head.weight":
            weights[key] = torch.zeros_like(weights[key])
    convert(namespace_checkpoint(args, weights), tmp_path / "again", "--to", "hf")
    assert "note: left out: classification_heads.mnli.dense.weight" in capsys.readouterr().out
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == ["RobertaModel"]
    assert not any("lm_head" in key for key in load_file(tmp_path / "again" / "model.safetensors"))


def test_bart_with_different_numbers_of_positions(build_bart, namespace_checkpoint, tmp_path):
    sizes = {"max_source_positions": LENGTH, "max_target_positions": 2 * LENGTH}
    model = build_bart("bart_base", **sizes)
    sizes |= {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in SIZES.items()}
    args = {"arch": "bart_base", "task": "translation", **sizes}
    with pytest.raises(UsageError, match="another number of positions than the decoder"):
        convert(namespace_checkpoint(args, model.state_dict()), tmp_path / "out", "--to", "hf")
