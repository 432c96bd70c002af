#!/usr/bin/env python3
"""Put finished runs side by side: ROUGE, trained parameters, files and time.

    python scripts/compare_runs.py checkpoints/a checkpoints/b --json results.json

A run is the SAVE_DIR of train.sh and evaluate.sh. One without a checkpoint is a backbone that was
evaluated as it is. Runs of one folder whose names differ only in their ending -seedN share a row, with the
mean and the standard deviation of their scores.
"""

import argparse
import json
import os
import re
import statistics
import sys
from pathlib import Path

import sparse_adapter  # noqa: F401  (safe loading)
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from sparse_adapter.files import write_json
from sparse_adapter.modules import is_adapter_key
from tabulate import tabulate

COLUMNS = {
    "run": "run",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "trained": "trained parameters",
    "adapter_bytes": "adapter KiB",
    "optimizer_bytes": "optimizer KiB",
    "checkpoint_bytes": "checkpoint MiB",
    "seconds": "training s",
}


def measure(run: Path) -> dict:
    """Scores and sizes of one run, whose path is absolute.

    Raises:
        FileNotFoundError: the run was not evaluated.
    """
    scores = json.loads((run / "scores.json").read_text())
    row = {
        "run": run.name,
        "folder": str(run.parent),
        **{name: scores[name] for name in ("rouge1", "rouge2", "rougeL")},
        "n": scores["n"],
    }
    checkpoint = run / "checkpoint_best.pt"
    if not checkpoint.exists():
        return {**row, "trained": 0, "adapter_bytes": 0, "optimizer_bytes": 0, "checkpoint_bytes": None, "seconds": 0}
    state = load_checkpoint_to_cpu(str(checkpoint))
    adapter = {key: value for key, value in state["model"].items() if is_adapter_key(key)}
    optimizer = (state.get("last_optimizer_state") or {"state": {}})["state"].values()  # --no-save-optimizer-state
    slots = [tensor for slot in optimizer for tensor in slot.values() if hasattr(tensor, "numel")]
    report = json.loads((run / "sparsity.json").read_text())
    last = run / "checkpoint_last.pt"  # the best one says how long it took until then
    if last.exists():
        state = load_checkpoint_to_cpu(str(last))
    return {
        **row,
        "trained": report["trained"]["total"],
        "sparsity": report["sparsity"],
        "adapter_bytes": sum(t.numel() * t.element_size() for t in adapter.values()),
        "optimizer_bytes": sum(t.numel() * t.element_size() for t in slots),
        "checkpoint_bytes": checkpoint.stat().st_size,
        "seconds": round(state["extra_state"]["previous_training_time"], 1),
        "pruning_seconds": report["seconds"],
    }


def over_seeds(rows: list[dict]) -> list[dict]:
    """One row for all seeds of a run: means, and the standard deviations of ROUGE as ``rouge1_sd`` and so on. Rows of
    one name in several folders have as much of these before it as tells them apart.

    Raises:
        ValueError: the seeds of a run are not scored on as many examples.
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["folder"], re.sub(r"-seed\d+$", "", row["run"])), []).append(row)
    merged = []
    for (folder, name), group in groups.items():
        if len({row["n"] for row in group}) > 1:
            raise ValueError(f"{folder}/{name}: its seeds are scored on {[row['n'] for row in group]} examples")
        shown = name if len(group) > 1 else group[0]["run"]
        others = [Path(other).parts for other, its in groups if its == name and other != folder]
        own, depth = Path(folder).parts, 0
        while any(other[len(other) - depth :] == own[len(own) - depth :] for other in others):
            depth += 1
        shown = "/".join([*own[len(own) - depth :], shown])
        row = {**group[0], "run": shown, "seeds": len(group)}
        for field in ("rouge1", "rouge2", "rougeL", "seconds"):
            row[field] = statistics.mean(r[field] for r in group)
            if len(group) > 1:
                row[f"{field}_sd"] = statistics.stdev(r[field] for r in group)
        merged.append(row)
    return merged


def table(rows: list[dict]) -> str:
    """The rows as people read them."""

    def cell(row: dict, column: str):
        value = row[column]
        if value is None:
            return "-"
        if column.startswith("rouge"):
            spread = row.get(f"{column}_sd")
            return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:.2f}"
        if column in ("adapter_bytes", "optimizer_bytes"):
            return f"{value / 2**10:,.0f}"
        if column == "checkpoint_bytes":
            return f"{value / 2**20:.1f}"
        return f"{value:,.0f}" if column in ("trained", "seconds") else value

    cells = [[cell(row, column) for column in COLUMNS] for row in rows]
    return tabulate(cells, headers=list(COLUMNS.values()), tablefmt="github", stralign="right", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders with scores.json")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    rows = []
    for run in dict.fromkeys(Path(os.path.abspath(path)) for path in args.runs):
        try:
            rows.append(measure(run))
        except FileNotFoundError as error:
            sys.exit(f"error: {error.filename} is missing: train and evaluate the run first")
        except (json.JSONDecodeError, KeyError) as error:
            sys.exit(f"error: {run}: scores.json or sparsity.json is damaged, or of no summarisation run ({error})")
    try:
        print(table(over_seeds(rows)))
    except ValueError as error:
        sys.exit(f"error: {error}: evaluate them anew")
    if args.json:
        write_json(args.json, rows)


if __name__ == "__main__":
    main()
