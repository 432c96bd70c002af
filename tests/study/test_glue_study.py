"""A study with the scripts of examples/glue, on tiny random BERT and made-up sentences."""

import json

import pytest
from sparse_adapter.cli import main
from sparse_adapter.study.results import collect

from ..examples.glue import load, write_bert, write_glue


@pytest.mark.slow
def test_full_sparse_and_fusion(tmp_path):
    tasks = load("glue_tasks").TASKS
    write_glue(tmp_path / "glue", {name: tasks[name] for name in ("rte", "cola")})
    write_bert(tmp_path / "tiny")
    config = {
        "data": str(tmp_path / "glue"),
        "backbone": str(tmp_path / "tiny"),
        "tasks": ["rte", "cola"],
        "seeds": [1],
        "env": {"BOTTLENECK": 8, "MAX_EPOCH": 2, "PRUNE_BATCHES": 1},
        "grid": [{"family": "none"}, {"pruner": "snip", "sparsity": 0.4}, {"family": "adapter_fusion"}],
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    main(["study", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "study"), "--jobs", "2", "--gpus", ""])
    tables = collect(tmp_path / "study")
    runs = tables["results"].set_index("run")
    assert len(runs) == 8 and set(runs["status"]) == {"finished"}
    assert dict(zip(runs["task"], runs["metric"], strict=True)) == {"rte": "accuracy", "cola": "matthews"}
    sparse = runs.loc["rte-tiny-houlsby-snip0.4-seed1"]
    assert sparse["kept_weights"] == round(0.6 * sparse["all_weights"]) and sparse["bottleneck"] == 8
    assert sparse["dead_adapters"] == 0 and 0 <= sparse["dead_units"] < sparse["units"]
    assert dict(zip(runs["task"], runs["curve_metric"], strict=True)) == {"rte": "acc", "cola": "mcc"}
    curves = tables["curves"]
    assert curves[curves["run"] == sparse.name]["epoch"].unique().tolist() == [1, 2]
    main(["report", str(tmp_path / "study"), str(tmp_path / "out")])
    assert "8 of 8 runs finished" in (tmp_path / "out" / "README.md").read_text()
