import json

import pytest
import torch
from sparse_adapter.modules import SparseLinear, sparse_weights
from sparse_adapter.pruning import format_report, sparsity_report
from torch import nn

FFN = "encoder.layers.0.sparse_adapter.houlsby.ffn"


def prune_rows_and_columns(model, dead_down: int, dead_up: int) -> None:
    """The first units of an FFN adapter lose their rows of ``down`` and columns of ``up``, and a weight is spared."""
    weights = sparse_weights(model)
    down, up = torch.ones(8, 32).bool(), torch.ones(32, 8).bool()
    down[:dead_down] = False
    up[:, :dead_up] = False
    down[7, :31] = False  # a unit with one weight left lives
    weights[f"{FFN}.down.weight"].prune_(down)
    weights[f"{FFN}.up.weight"].prune_(up)


def test_dead_units_are_rows_of_down_and_columns_of_up(model):
    prune_rows_and_columns(model, dead_down=2, dead_up=3)
    rows = {row["name"]: row for row in sparsity_report(model)["matrices"]}
    down, up = rows[f"{FFN}.down.weight"], rows[f"{FFN}.up.weight"]
    assert (down["kept"], down["total"], down["dead_units"], down["units"]) == (5 * 32 + 1, 256, 2, 8)
    assert (up["kept"], up["total"], up["dead_units"], up["units"]) == (5 * 32, 256, 3, 8)
    assert down["density"] == pytest.approx(161 / 256)
    described = {key: down[key] for key in ("layer", "family", "site", "matrix", "shape")}
    assert described == {
        "layer": "encoder.layers.0", "family": "houlsby", "site": "ffn", "matrix": "down.weight", "shape": [8, 32],
    }  # fmt: skip
    assert all(row["dead_units"] == 0 for name, row in rows.items() if not name.startswith(FFN))


def test_a_weight_without_units_has_no_dead_ones():
    linear = SparseLinear(4, 3, torch.nn.init.normal_)
    linear.weight.prune_(torch.zeros(3, 4).bool())
    model = linear
    for name in ("query", "ffn", "fusion", "sparse_adapter", "layer"):  # from the inside out
        model = nn.ModuleDict({name: model})
    report = sparsity_report(model)
    assert (report["units"], report["dead_units"], report["matrices"][0]["kept"]) == (0, 0, 0)


def test_the_hash_tells_masks_apart(model, build_bart):
    before = sparsity_report(model)["mask_sha256"]
    assert before == sparsity_report(build_bart())["mask_sha256"]  # other values, and nothing pruned either
    prune_rows_and_columns(model, dead_down=2, dead_up=3)
    assert sparsity_report(model)["mask_sha256"] != before


def test_sums_by_site_layer_and_in_total(model):
    prune_rows_and_columns(model, dead_down=2, dead_up=3)
    report = sparsity_report(model)
    pruned, ffn = 512 - 161 - 160, 4 * 512
    assert report["matrix_total"]["total"] == 10 * 512
    assert report["matrix_total"]["kept"] == 10 * 512 - pruned
    assert (report["dead_units"], report["units"]) == (3, 80)  # the two rows are units that lost their columns too
    assert report["sites"] == {
        "self_attn": {"kept": 2048, "total": 2048, "dead_units": 0, "density": 1.0},
        "encoder_attn": {"kept": 1024, "total": 1024, "dead_units": 0, "density": 1.0},
        "ffn": {"kept": ffn - pruned, "total": ffn, "dead_units": 3, "density": (ffn - pruned) / ffn},
    }
    assert {name: layer["total"] for name, layer in report["layers"].items()} == {
        "encoder.layers.0": 1024, "encoder.layers.1": 1024, "decoder.layers.0": 1536, "decoder.layers.1": 1536,
    }  # fmt: skip
    assert report["layers"]["encoder.layers.0"]["kept"] == 1024 - pruned
    for group in ("sites", "layers"):
        assert sum(row["kept"] for row in report[group].values()) == report["matrix_total"]["kept"]


def test_trained_parameters_by_kind(model):
    prune_rows_and_columns(model, dead_down=2, dead_up=3)
    model.register_classification_head("sentence", num_classes=3)
    trained = sparsity_report(model)["trained"]
    head = (32 * 32 + 32) + (3 * 32 + 3)
    assert trained == {
        "matrices": 10 * 512 - 191,
        "biases": 10 * (8 + 32),
        "layer_norms": 10 * 64,
        "others": head,
        "total": 10 * 512 - 191 + 400 + 640 + head,
    }
    assert trained["total"] == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_share_of_the_backbone(pruned_model, stock_model):
    report = sparsity_report(pruned_model)
    backbone = sum(p.numel() for p in stock_model.parameters())
    assert report["backbone_parameters"] == backbone
    assert report["adapter_share_of_backbone"] == report["trained"]["total"] / backbone


def test_heads_are_no_part_of_the_backbone(build_bart):
    model = build_bart(adapter="houlsby")
    before = sparsity_report(model)
    model.register_classification_head("sentence", num_classes=3)
    report = sparsity_report(model)
    assert report["trained"]["others"] > before["trained"]["others"] == 0
    assert report["backbone_parameters"] == before["backbone_parameters"]


def test_full_fine_tuning_trains_others_only(build_bart):
    report = sparsity_report(build_bart(adapter="none"))
    assert report["trained"]["others"] == report["trained"]["total"] == report["backbone_parameters"]
    assert report["matrix_total"] == {"kept": 0, "total": 0, "density": None}
    format_report(report)


def test_adapters_that_lost_every_unit_are_named(model):
    prune_rows_and_columns(model, dead_down=2, dead_up=8)
    report = sparsity_report(model)
    assert report["dead_adapters"] == [FFN]
    assert f"WARNING: 1 adapters have no unit left (first: {FFN})" in format_report(report)


def test_the_report_is_plain_json_and_the_log_has_its_figures(pruned_model):
    report = sparsity_report(pruned_model)
    assert json.loads(json.dumps(report)) == report
    text = format_report(report)
    assert f"{report['matrix_total']['kept']:,} of 5,120 weights kept" in text
    assert f"trained: {report['trained']['total']:,} = {report['trained']['matrices']:,} in matrices" in text
    assert "WARNING" not in text
