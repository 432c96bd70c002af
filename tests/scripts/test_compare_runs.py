"""The table of finished runs: what shares a row."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import compare_runs  # noqa: E402


def row(folder: str, run: str, score: float) -> dict:
    sizes = dict.fromkeys(("trained", "adapter_bytes", "optimizer_bytes", "checkpoint_bytes", "seconds"), 1)
    return {"run": run, "folder": folder, "rouge1": score, "rouge2": score, "rougeL": score, "n": 9, **sizes}


def test_seeds_share_a_row():
    (merged,) = compare_runs.over_seeds([row("/a", "lora-seed1", 20), row("/a", "lora-seed2", 22)])
    assert (merged["run"], merged["seeds"], merged["rouge1"]) == ("lora", 2, 21)


def test_seeds_that_are_scored_on_other_examples_are_no_row():
    with pytest.raises(ValueError, match=r"/a/lora: its seeds are scored on \[9, 8\] examples"):
        compare_runs.over_seeds([row("/a", "lora-seed1", 20), row("/a", "lora-seed2", 22) | {"n": 8}])


def test_the_same_run_on_other_data_has_its_own_row():
    rows = compare_runs.over_seeds([row("/runs/xsum", "lora-seed1", 20), row("/runs/cnn", "lora-seed1", 40)])
    assert [(merged["run"], merged["rouge1"]) for merged in rows] == [("xsum/lora-seed1", 20), ("cnn/lora-seed1", 40)]
    studies = [row(f"/{name}/runs", "lora-seed1", 20) for name in ("xsum", "cnn")]
    names = [merged["run"] for merged in compare_runs.over_seeds(studies)]
    assert names == ["xsum/runs/lora-seed1", "cnn/runs/lora-seed1"]
    assert all(name in compare_runs.table(rows) for name in ("xsum/lora-seed1", "cnn/lora-seed1"))
