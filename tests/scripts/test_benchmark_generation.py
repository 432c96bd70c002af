"""The generation benchmark's report on a tiny model. Times are not judged."""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import benchmark_generation  # noqa: E402


def test_all_families_decode_and_are_compared_with_the_plain_backbone(tmp_path, capsys):
    sizes = {"layers": 1, "dim": 32, "heads": 2, "vocab": 60, "batch": 2, "source": 8, "target": 4, "beam": 2}
    settings = sizes | {"bottleneck": 4, "rounds": 1, "threads": torch.get_num_threads(), "json": tmp_path / "out.json"}
    flags = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    benchmark_generation.main(["--cpu", *flags])
    rows = json.loads((tmp_path / "out.json").read_text())["systems"]
    assert [row["system"] for row in rows] == list(benchmark_generation.SYSTEMS)
    assert rows[0]["share_of_plain"] == 1
    printed = capsys.readouterr().out
    for row in rows:
        assert f"| {row['system']} " in printed and row["tokens_per_second"] > 0
        assert row["met"] == (None if row["target"] is None else row["share_of_plain"] >= row["target"])
