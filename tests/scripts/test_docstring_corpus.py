"""The embedded data set: what a pair is, and that nothing leaks from training to test."""

import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import docstring_corpus  # noqa: E402

BODY = " ".join(f"word{i}" for i in range(25))


def pair_of(text: str):
    return docstring_corpus.to_pair(docstring_corpus.Docstring("package.module", "function", text))


def test_first_paragraph_is_the_summary_and_examples_are_left_out():
    pair = pair_of(f"Return the sum\nof two numbers.\n\n{BODY}\n\nExamples\n--------\n>>> add(1, 2)\n3")
    assert pair == ("package.module:function", BODY, "Return the sum of two numbers.")


@pytest.mark.parametrize(
    "text",
    [f"Too short.\n\n{BODY}", "A summary of enough words\n\nand a short body", f".. note:: a directive here\n\n{BODY}"],
)
def test_unusable_docstrings_give_no_pair(text):
    assert pair_of(text) is None


def test_source_is_parsed_and_never_run(tmp_path):
    source = f'import sys\nsys.exit("ran")\ndef f():\n    """One two three four.\n\n    {BODY}\n    """\n'
    (found,) = docstring_corpus.docstrings("m", source)
    assert found.name == "f" and found.text.startswith("One two three four.")


def test_modules_are_on_one_side_and_no_text_occurs_twice():
    found = [
        docstring_corpus.Docstring(f"m{i}", f"f{j}", f"Summary number {j % 40} of this test.\n\n{BODY} {i} {j % 50}")
        for i in range(60)
        for j in range(5)
    ]
    splits = docstring_corpus.build_pairs(found)
    modules = {split: {pair.id.split(":")[0] for pair in pairs} for split, pairs in splits.items()}
    assert modules["train"].isdisjoint(modules["test"] | modules["valid"])
    pairs = [pair for split in splits.values() for pair in split]
    assert len({pair.summary for pair in pairs}) == len({pair.document for pair in pairs}) == len(pairs) > 0


def test_held_out_documents_never_occur_in_the_pretraining_text():
    test_module = next(f"m{i}" for i in range(1000) if docstring_corpus.split_of(f"m{i}") == "test")
    train_module = next(f"m{i}" for i in range(1000) if docstring_corpus.split_of(f"m{i}") == "train")
    text = f"One two three four.\n\n{BODY}"
    found = [docstring_corpus.Docstring(module, "f", text) for module in (test_module, train_module)]
    splits = docstring_corpus.build_pairs(found)
    assert [len(splits[split]) for split in ("test", "train")] == [1, 0]
    assert docstring_corpus.training_texts(found, splits["test"]) == []


def test_command_writes_the_three_splits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["docstring_corpus.py", str(tmp_path), "--packages", "sacrebleu"])
    docstring_corpus.main()
    for split in ("train", "valid", "test"):
        rows = [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        assert rows and all(row["document"] and row["summary"] for row in rows)
