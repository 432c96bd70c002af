"""examples/summarization/interactive.sh: documents of any length to one line each."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE, BACKBONE = ROOT / "examples" / "summarization", ROOT / "examples" / "pretraining" / "bart_mini"
LONG = "the quick brown fox jumps over the lazy dog near the riverbank and internationalises everything " * 20


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("dict.source.txt", "dict.target.txt"):
        shutil.copyfile(BACKBONE / "dict.txt", folder / name)
    shutil.copyfile(BACKBONE / "sentencepiece.bpe.model", folder / "sentencepiece.bpe.model")
    (folder / "prepare.json").write_text(json.dumps({"settings": {"bpe": "sentencepiece", "max_source": 24}}))
    return folder


def test_long_lines_are_cut_and_others_are_not(data):
    from sentencepiece import SentencePieceProcessor

    lines = [LONG, "a short one", *(LONG[i:] for i in range(9)), *("£€’–" * 20 + " " * i for i in range(2))]
    command = [sys.executable, EXAMPLE / "cut.py", "--data", data]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cut = done.stdout.splitlines()
    model = SentencePieceProcessor(model_file=str(data / "sentencepiece.bpe.model"))
    assert len(cut) == len(lines) and cut[1] == lines[1]
    for short, long in zip(cut, lines, strict=True):
        assert long.strip().startswith(short) and len(model.encode(short)) <= 23
        assert short == long or len(model.encode(short)) >= 20


def test_a_summary_a_line(data, tmp_path):
    settings = {"DATA": data, "CHECKPOINT": BACKBONE / "model.pt", "BEAM": 2, "MAX_LEN_B": 20, "VENV": sys.prefix}
    settings |= {"NO_REPEAT_NGRAM": 0}  # the dash and the quote begin with the same two bytes, and are pieces of bytes
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in settings.items()}
    done = subprocess.run(
        ["bash", EXAMPLE / "interactive.sh"],
        cwd=tmp_path,
        env=environment,
        input=f"{LONG}\nTwo dogs run through the snow.\nThe club paid £250m – “too much”.\n",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    summaries = done.stdout.splitlines()
    assert len(summaries) == 3 and "club paid £250m – “too" in summaries[2]
    assert "fox" in summaries[0] and "dogs" in summaries[1]  # the frozen backbone copies


def test_every_line_is_answered_at_once(data, tmp_path):
    """A program that waits for an answer before it goes on would otherwise wait for ever."""
    bin = tmp_path / "bin"
    bin.mkdir()
    stubs = {
        "python": f'exec "{sys.executable}" "$@"',
        "fairseq-interactive": 'printf "S-0\\tx\\nD-0\\t-0.1\\tone\\ttab\\n"; for i in $(seq 100); do '
        f'[ -e "{tmp_path}/read" ] && break; sleep 0.1; done; printf "D-1\\t-0.2\\t%s\\n" $i',
    }
    for name, line in stubs.items():
        (bin / name).write_text(f"#!/bin/bash\n{line}\n")
        (bin / name).chmod(0o755)
    settings = {"DATA": data, "CHECKPOINT": BACKBONE / "model.pt", "VENV": tmp_path}
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    reader = f'bash {EXAMPLE}/interactive.sh | {{ read -r line; echo "$line"; touch {tmp_path}/read; cat; }}'
    done = subprocess.run(
        ["bash", "-c", reader], env=environment, input="a\n", capture_output=True, text=True, timeout=60
    )
    first, last = done.stdout.splitlines()
    assert first == "one\ttab" and int(last) < 100, done.stderr
