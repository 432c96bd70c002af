#!/usr/bin/env python3
"""Refuse to go on with a run on other data than it was begun with, or on data that were prepared again otherwise.

    python same_data.py --data data-bin/xsum --save-dir RUN

Of a run that begins, keeps ``prepare.json`` of the data in RUN. Where things lie does not count.
"""

import argparse
import json
import zlib
from pathlib import Path

from hypotheses import write

SHOWN = 3
ANSWERS = ".jsonl"  # of SQuAD's dev set


def checksums(data: Path) -> dict[str, str]:
    """CRC-32 of everything that is trained or validated on: counts alone do not tell folds of one size apart."""
    found = {}
    for path in sorted(path for path in data.rglob("*") if path.suffix in (".bin", ".label", ANSWERS)):
        checksum = 0
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                checksum = zlib.crc32(block, checksum)
        found[path.relative_to(data).as_posix()] = f"{checksum:08x}"
    return found


def differences(before: object, now: object, name: str = "") -> list[str]:
    """``settings.limit_train was 100 and is None`` for all that differs, but for paths and the number of processes."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [line for key in keys for line in differences(before.get(key), now.get(key), f"{name}.{key}".strip("."))]
    are_texts = isinstance(before, str) and isinstance(now, str)
    if before == now or (are_texts and "/" in before + now) or name.endswith(".workers"):
        return []
    return [f"{name} was {before} and is {now}"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder of the run")
    args = parser.parse_args(argv)
    source, record = args.data / "prepare.json", args.save_dir / "prepare.json"
    if not source.is_file():  # fairseq-preprocess leaves none
        return
    now = json.loads(source.read_text(encoding="utf-8")) | {"files": checksums(args.data)}
    before = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else now
    # Of runs that were begun before all files were recorded:
    if "files" not in before:
        del now["files"]
    elif not any(name.endswith(ANSWERS) for name in before["files"]):
        now["files"] = {name: value for name, value in now["files"].items() if not name.endswith(ANSWERS)}
    if not (args.save_dir / "checkpoint_last.pt").exists():
        write(record, json.dumps(now, indent=1) + "\n")
    elif found := differences(before, now):
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        parser.exit(
            1,
            f"error: {args.save_dir} was trained on other data than {args.data} has now: {', '.join(found[:SHOWN])}"
            f"{more}; give another SAVE_DIR, or delete this one to train anew\n",
        )


if __name__ == "__main__":
    main()
