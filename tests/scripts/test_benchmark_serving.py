"""The serving benchmark's report on a tiny model. Times are not judged."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_all_mixes_are_measured(tmp_path):
    out = tmp_path / "report.json"
    sizes = {"layers": 1, "dim": 32, "heads": 2, "vocab": 60, "lines": 6, "buffer": 4, "source": 8, "max-len": 4}
    command = [sys.executable, REPOSITORY / "scripts/benchmark_serving.py", "--cpu", "--families", "houlsby", "lora"]
    settings = sizes | {"rounds": 1, "json": out}
    command += [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    report = json.loads(out.read_text())
    names = ["plain backbone", "domain1 (houlsby)", "domain2 (lora)", "both by turns"]
    assert [row["lines"] for row in report["mixes"]] == names
    assert all(row["lines_per_second"] > 0 and row["lines"] in result.stdout for row in report["mixes"])
    judged = report["mixes"][-1]
    assert judged["target"] == 0.9 and judged["met"] == (judged["share_of_one_domain"] >= 0.9)
    assert report["settings"]["lines"] == 6
