"""sparse-adapter merge: when the result needs no plugin, and what it holds."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from sparse_adapter.checkpoint.adapter_file import fresh_checkpoint
from sparse_adapter.checkpoint.adapter_only import backbone_fingerprint
from sparse_adapter.checkpoint.rebuild import build_model
from sparse_adapter.cli.merge import run, stock_exists

from ..conftest import randomize

HEAD = "classification_heads.sentence_classification_head"
TRAINED = {f"{HEAD}.dense.weight": torch.ones(32, 32), f"{HEAD}.out_proj.weight": torch.ones(2, 32)}


@pytest.mark.parametrize(
    "arch, task, expected",
    [
        ("bart_mini", "translation", True),
        ("transformer_iwslt_de_en", "translation", True),
        ("mbart_large", "translation_from_pretrained_bart", False),
        ("roberta_base", "sentence_prediction", True),
        ("roberta_base", "squad", False),
        ("bert_base", "sentence_prediction", False),  # fairseq's bert_base is another model
    ],
)
def test_fairseq_has_no_bert_and_no_squad_and_cannot_set_up_mbart(arch, task, expected):
    assert stock_exists({"arch": f"sparse_adapter_{arch}"}, {"_name": f"sparse_adapter_{task}"}) is expected


def merged(folder: Path, adapter: str, arch: str = "sparse_adapter_roberta_base", **options) -> tuple[dict, str]:
    """The merged state of a tiny model with a head, and the fingerprint of its backbone before."""
    sizes = {"layers": 1, "embed_dim": 32, "ffn_embed_dim": 64, "attention_heads": 4}
    args = Namespace(
        arch=arch,
        adapter=adapter,
        lora_rank=2,
        adapter_bottleneck=4,
        max_positions=32,
        backbone="/models/roberta.base/model.pt",
        **{f"encoder_{name}": size for name, size in sizes.items()} | options,
    )
    model = randomize(build_model(args, 60, 60))
    args.backbone_fingerprint = backbone_fingerprint(model)
    cfg = {"model": args, "task": {"_name": "sparse_adapter_sentence_prediction", "data": "/data"}}
    cfg["criterion"] = {"_name": "sentence_prediction"}
    torch.save(fresh_checkpoint(cfg, model.state_dict() | TRAINED), folder / "in.pt")
    run(Namespace(file=folder / "in.pt", out=folder / "out.pt", force=False, backbone=None))
    return load_checkpoint_to_cpu(str(folder / "out.pt")), args.backbone_fingerprint


@pytest.mark.parametrize("adapter", ["lora", "houlsby"])
def test_a_trained_head_stays_and_nothing_says_that_it_is_deleted(tmp_path, adapter, caplog):
    state, _ = merged(tmp_path, adapter)
    assert "deleting" not in caplog.text
    assert all(torch.equal(state["model"][key], value) for key, value in TRAINED.items())


def test_without_adapters_only_the_plugin_goes(tmp_path, capsys):
    state, _ = merged(tmp_path, "none")
    assert "a plain fairseq checkpoint, architecture roberta_base" in capsys.readouterr().out
    assert state["cfg"].model.arch == "roberta_base" and not hasattr(state["cfg"].model, "adapter")


@pytest.mark.parametrize("arch", ["sparse_adapter_roberta_base", "sparse_adapter_bert_base"])
def test_merged_lora_of_some_layers_is_in_none(tmp_path, arch):
    state, _ = merged(tmp_path, "lora", arch, adapter_layers="encoder.0")
    assert getattr(state["cfg"].model, "adapter_layers", "all") == "all"
    assert load_checkpoint_to_cpu(str(tmp_path / "out.pt"))["cfg"].model.arch


def test_adapters_that_stay_belong_to_the_backbone_with_lora(tmp_path):
    state, before = merged(tmp_path, "lora+houlsby")
    assert state["cfg"].model.backbone == "" and state["cfg"].model.backbone_fingerprint != before
    assert backbone_fingerprint(build_model(state["cfg"].model, 60, 60), state["model"]) == (
        state["cfg"].model.backbone_fingerprint
    )


def test_adapters_without_lora_keep_their_backbone(tmp_path):
    state, before = merged(tmp_path, "houlsby")
    assert state["cfg"].model.backbone and state["cfg"].model.backbone_fingerprint == before


def test_fairseq_finds_a_place_for_the_data_and_the_criterion(tmp_path):
    """Without these, nothing but fairseq-generate can load the file."""
    state, _ = merged(tmp_path, "lora")
    assert state["cfg"].task.data == "" and state["cfg"].criterion._name == "sentence_prediction"
    state = load_checkpoint_to_cpu(str(tmp_path / "out.pt"), {"data": "elsewhere"})
    assert state["cfg"].task.data == "elsewhere"
