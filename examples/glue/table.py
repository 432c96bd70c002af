#!/usr/bin/env python3
"""Put finished runs of GLUE side by side: the metric of each task, mean ± standard deviation over seeds.

    python examples/glue/table.py checkpoints/glue/*/*

A run is the SAVE_DIR of train.sh and evaluate.sh. Runs whose names differ only in their ending -seedN share a cell,
runs of the same name on other tasks a row.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

from tabulate import tabulate


def read_run(run: Path) -> dict:
    """Task, metric, score and trained parameters (without the task's head) of a run."""
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    report = run / "sparsity.json"
    trained = json.loads(report.read_text(encoding="utf-8"))["trained"] if report.is_file() else {"total": 0}
    return {
        "system": re.sub(r"-seed\d+$", "", run.name),
        "task": f"{scores['task']}, {scores['metric']}",
        "value": scores["value"],
        "trained": trained["total"],
    }


def mean_and_deviation(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def table(runs: list[dict]) -> str:
    """One row for each system, one column for each task, both in the order of the runs."""
    systems, tasks = (list(dict.fromkeys(run[key] for run in runs)) for key in ("system", "task"))
    rows = []
    for system in systems:
        own = [run for run in runs if run["system"] == system]
        values = {task: [run["value"] for run in own if run["task"] == task] for task in tasks}
        means = [statistics.mean(found) for found in values.values() if found]
        average = f"{statistics.mean(means):.1f}" if len(means) == len(tasks) else "-"
        seeds = max(map(len, values.values()))
        rows.append([system, f"{own[0]['trained']:,}", *map(mean_and_deviation, values.values()), average, seeds])
    headers = ["system", "trained parameters", *tasks, "mean", "seeds"]
    return tabulate(rows, headers=headers, tablefmt="github", stralign="right", disable_numparse=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders with scores.json")
    args = parser.parse_args(argv)
    try:
        print(table([read_run(run) for run in args.runs]))
    except (FileNotFoundError, NotADirectoryError) as error:
        sys.exit(f"error: {error.filename} is missing: train and evaluate the run first")


if __name__ == "__main__":
    main()
