#!/usr/bin/env python3
"""Put finished systems side by side on the new and the old domain.

    python examples/translation/table.py WORK/runs/backbone-seed1 WORK/runs/*-seed1 --json results.json

A folder that is named twice, as here, counts once; several seeds of a system have a row each.

A system is a folder of run_multi30k.sh: what train.sh wrote, and the scores of evaluate.sh in software and general.
The first one is the backbone, from which gains are counted.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from sparse_adapter.files import write_json
from tabulate import tabulate

DOMAINS = ("software", "general")


def measure(run: Path) -> dict:
    """Scores on both domains, and what was trained.

    Raises:
        FileNotFoundError: the run was not evaluated.
    """
    system, _, seed = run.name.partition("-seed")
    row: dict = {"system": system, "seed": seed}
    for domain in DOMAINS:
        scores = json.loads((run / domain / "scores.json").read_text(encoding="utf-8"))
        row |= {f"{domain}_{metric}": scores[metric] for metric in ("bleu", "chrf", "n")}
        row |= {f"{metric}_signature": scores[f"{metric}_signature"] for metric in ("bleu", "chrf")}
    report = run / "sparsity.json"
    row["trained"] = json.loads(report.read_text(encoding="utf-8"))["trained"]["total"] if report.is_file() else 0
    return row


def table(rows: list[dict]) -> str:
    """One row a system, with the gain in BLEU on the new domain, and that as a share of full fine-tuning's."""
    backbone = rows[0]
    gains = [row["software_bleu"] - backbone["software_bleu"] for row in rows]
    of_full = {row["seed"]: gain for row, gain in zip(rows, gains, strict=True) if row["system"] == "full"}
    seeds = {row["seed"] for row in rows if row is not backbone}
    shown = []
    for row, gain in zip(rows, gains, strict=True):
        full = of_full.get(row["seed"])
        shown.append(
            [
                row["system"] if len(seeds) < 2 else f"{row['system']}, seed {row['seed']}",
                f"{row['trained']:,}",
                f"{row['software_bleu']:.1f}",
                f"{row['software_chrf']:.1f}",
                "" if row is backbone else f"{gain:+.1f}",
                "" if row is backbone or not full else f"{100 * gain / full:.0f} %",
                f"{row['general_bleu']:.1f}",
                # Full fine-tuning has overwritten the backbone; an adapter can be left out.
                "-" if row["system"] == "full" else f"{backbone['general_bleu']:.1f}",
            ]
        )
    headers = ["system", "trained", "BLEU software", "chrF", "gain", "of full", "BLEU captions", "switched off"]
    return tabulate(shown, headers, "github", stralign="right", disable_numparse=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of systems, the backbone's first")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    args = parser.parse_args(argv)
    try:
        rows = [measure(run) for run in dict.fromkeys(Path(os.path.abspath(path)) for path in args.runs)]
    except FileNotFoundError as error:
        sys.exit(f"error: {error.filename} is missing; run train.sh and evaluate.sh first")
    if args.json:
        write_json(args.json, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
