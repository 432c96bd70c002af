"""examples/summarization/prepare.py and prepare.sh: formats, cutting, bad input, nothing half-written."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece

EXAMPLE = Path(__file__).parents[2] / "examples" / "summarization"
DATA = Path(os.environ.get("SPARSE_ADAPTER_DATA", Path(__file__).parents[2] / "../shared/data"))
WORDS = "balo rin tesk omu dary fenn golti hapu virr quon sed lami purth zeni wok".split()


def text(start: int, words: int) -> str:
    return " ".join(WORDS[(start * 7 + i * i + i // 3) % len(WORDS)] for i in range(words))


PAIRS = {
    "train": [(text(i, 6 + 5 * i), text(i + 3, 2 + i)) for i in range(6)],
    "valid": [(text(20, 9), text(21, 3)), (text(22, 4), text(23, 2))],
    "test": [(text(30, 12), text(31, 4)), (text(32, 5), text(33, 2)), (text(34, 30), text(35, 12))],
}


@pytest.fixture(scope="module")
def prepare():
    sys.path.insert(0, str(EXAMPLE))  # for raw_pairs
    spec = importlib.util.spec_from_file_location("summarization_prepare", EXAMPLE / "prepare.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(EXAMPLE))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    """A folder with a tiny SentencePiece model and its dictionary."""
    folder = tmp_path_factory.mktemp("backbone")
    corpus = folder / "corpus.txt"
    corpus.write_text("".join(text(i, 12) + "\n" for i in range(200)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    pieces = [processor.id_to_piece(i) for i in range(3, len(processor))]
    (folder / "dict.txt").write_text("".join(f"{piece} 1\n" for piece in pieces), encoding="utf-8")
    corpus.unlink()
    return folder


def write_jsonl(raw: Path, pairs: dict = PAIRS) -> Path:
    raw.mkdir(parents=True, exist_ok=True)
    for split, examples in pairs.items():
        records = [json.dumps({"id": i, "document": d, "summary": s}) for i, (d, s) in enumerate(examples)]
        (raw / f"{split}.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    return raw


def arguments(raw: Path, data: Path, backbone: Path, *more: str) -> list[str]:
    return ["--raw", str(raw), "--data", str(data), "--backbone-dir", str(backbone), "--workers", "1", *more]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def indexed(folder: Path, split: str, side: str) -> list[list[str]]:
    """Each example's symbols, as fairseq reads them."""
    from fairseq.data import Dictionary, data_utils

    dictionary = Dictionary.load(str(folder / f"dict.{side}.txt"))
    dataset = data_utils.load_indexed_dataset(str(folder / f"{split}.source-target.{side}"), dictionary)
    return [[dictionary[index] for index in dataset[i]] for i in range(len(dataset))]


def test_three_forms_give_the_same_data(prepare, backbone, tmp_path):
    write_jsonl(tmp_path / "plain")
    packed, lines = tmp_path / "packed", tmp_path / "lines"
    packed.mkdir()
    lines.mkdir()
    for split, examples in PAIRS.items():
        (packed / f"{split}.jsonl.gz").write_bytes(gzip.compress((tmp_path / "plain" / f"{split}.jsonl").read_bytes()))
        # Windows line ends and no last one; jsonl has neither.
        (lines / f"{split}.source").write_text("\r\n".join(d for d, _ in examples), newline="")
        (lines / f"{split}.target").write_text("\n".join(s for _, s in examples) + "\n")
    written = {}
    for form in ("plain", "packed", "lines"):
        data = tmp_path / "data" / form
        prepare.main(arguments(tmp_path / form, data, backbone))
        written[form] = files(data)
        assert json.loads(written[form].pop("prepare.json"))["splits"]["test"]["examples"] == 3
    assert written["plain"] == written["packed"] == written["lines"]
    assert sorted(written["plain"]) == sorted(
        [f"{s}.source-target.{side}.{end}" for s in PAIRS for side in ("source", "target") for end in ("bin", "idx")]
        + [f"{s}.{what}.txt" for s in ("valid", "test") for what in ("document", "summary")]
        + ["dict.source.txt", "dict.target.txt", "sentencepiece.bpe.model"]
    )
    assert written["plain"]["sentencepiece.bpe.model"] == (backbone / "sentencepiece.bpe.model").read_bytes()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["lines", "packed", "plain"]


def test_cut_to_the_token(prepare, backbone, tmp_path):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(backbone / "sentencepiece.bpe.model"))
    pieces = [processor.encode(document, out_type=str) for document, _ in PAIRS["test"]]
    limit = len(pieces[0]) + 1  # the first just fits with its end symbol
    assert len(pieces[1]) < limit < len(pieces[2])
    for max_source, cut in ((limit, [0, 0, 1]), (limit - 1, [1, 0, 1])):
        data = tmp_path / str(max_source)
        prepare.main(
            arguments(
                write_jsonl(tmp_path / "raw"), data, backbone, "--max-source", str(max_source), "--max-target", "4"
            )
        )
        assert indexed(data, "test", "source") == [[*p[: max_source - 1], "</s>"] for p in pieces]
        assert max(map(len, indexed(data, "train", "target"))) == 4
        counts = json.loads((data / "prepare.json").read_text())["splits"]["test"]
        assert counts["source_truncated"] == sum(cut)
        # What is scored and shown is not cut.
        assert (data / "test.document.txt").read_text().splitlines() == [d for d, _ in PAIRS["test"]]


def test_white_space_becomes_one_space(prepare, backbone, tmp_path):
    messy = [("balo\u2028rin\n\ntesk\t omu\x85dary \x0c fenn", " golti\r\nhapu\u00a0virr ")]
    prepare.main(arguments(write_jsonl(tmp_path / "raw", {**PAIRS, "test": messy}), tmp_path / "messy", backbone))
    clean = [("balo rin tesk omu dary fenn", "golti hapu virr")]
    prepare.main(arguments(write_jsonl(tmp_path / "raw", {**PAIRS, "test": clean}), tmp_path / "clean", backbone))
    assert files(tmp_path / "messy")["test.document.txt"] == b"balo rin tesk omu dary fenn\n"
    kept = [{n: c for n, c in files(tmp_path / name).items() if n != "prepare.json"} for name in ("messy", "clean")]
    assert kept[0] == kept[1]


def test_training_examples_of_which_the_bpe_leaves_nothing_are_left_out(prepare, backbone, tmp_path):
    train = [*PAIRS["train"][:3], ("balo rin", "\u200b"), ("\ufeff", "rin")]
    prepare.main(arguments(write_jsonl(tmp_path / "raw", {**PAIRS, "train": train}), tmp_path / "data", backbone))
    counts = json.loads((tmp_path / "data" / "prepare.json").read_text())["splits"]["train"]
    assert (counts["examples"], counts["empty"]) == (3, 2)
    assert len(indexed(tmp_path / "data", "train", "source")) == 3


def tiny_gpt2(folder: Path) -> Path:
    """A byte-level BPE with one merge, in GPT-2's files."""
    from fairseq.data.encoders.gpt2_bpe_utils import bytes_to_unicode

    symbols = [*bytes_to_unicode().values(), "ri"]
    folder.mkdir()
    (folder / "encoder.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (folder / "vocab.bpe").write_text("#version: 0.2\nr i\n", encoding="utf-8")
    (folder / "dict.txt").write_text("".join(f"{i} 1\n" for i in range(len(symbols))))
    return folder


def test_gpt2_bpe(prepare, tmp_path):
    from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

    folder = tiny_gpt2(tmp_path / "backbone")
    pairs = {**PAIRS, "test": [("drié, 2 rin", "rin")]}
    prepare.main(arguments(write_jsonl(tmp_path / "raw", pairs), tmp_path / "data", folder, "--bpe", "gpt2"))
    encoder = get_encoder(str(tmp_path / "data" / "encoder.json"), str(tmp_path / "data" / "vocab.bpe"))
    (tokens,), (summary,) = indexed(tmp_path / "data", "test", "source"), indexed(tmp_path / "data", "test", "target")
    assert tokens[-1] == "</s>" and encoder.decode(map(int, tokens[:-1])) == "drié, 2 rin"
    assert summary == ["256", str(encoder.encoder["n"]), "</s>"]  # "ri" is one symbol


@pytest.mark.skipif(not (DATA / "gpt2_bpe" / "dict.txt").exists(), reason="needs gpt2_bpe in SPARSE_ADAPTER_DATA")
def test_gpt2_bpe_of_published_models(prepare, tmp_path):
    pairs = {**PAIRS, "test": [("Hello world", "Hello")]}
    prepare.main(arguments(write_jsonl(tmp_path / "raw", pairs), tmp_path / "data", DATA / "gpt2_bpe", "--bpe", "gpt2"))
    assert indexed(tmp_path / "data", "test", "source") == [["15496", "995", "</s>"]]


def replace_line(name: str, number: int, line: bytes):
    def change(raw: Path) -> None:
        lines = (raw / name).read_bytes().split(b"\n")
        lines[number - 1] = line
        (raw / name).write_bytes(b"\n".join(lines))

    return change


def as_lines(source: bytes, target: bytes | None):
    def change(raw: Path) -> None:
        (raw / "valid.jsonl").unlink()
        (raw / "valid.source").write_bytes(source)
        if target is not None:
            (raw / "valid.target").write_bytes(target)

    return change


BAD_INPUT = {
    "no split": (lambda raw: (raw / "valid.jsonl").unlink(), ["no valid split", "valid.jsonl.gz"]),
    "two forms": (lambda raw: (raw / "train.jsonl.gz").touch(), ["train.jsonl and train.jsonl.gz", "keep one"]),
    "empty file": (lambda raw: (raw / "test.jsonl").write_bytes(b"\n\n"), ["test.jsonl is empty"]),
    "not UTF-8": (
        replace_line("train.jsonl", 4, b'{"document": "a", "summary": "caf\xe9"}'),
        ["train.jsonl, line 4: byte 0xe9 is not UTF-8"],
    ),
    "not UTF-8 after a BOM": (
        lambda raw: (raw / "train.jsonl").write_bytes(b'\xef\xbb\xbf{"document": "a"}\n\xff'),
        ["train.jsonl, line 2: byte 0xff"],
    ),
    "damaged gzip": (
        lambda raw: (raw / "test.jsonl").rename(raw / "test.jsonl.gz"),
        ["test.jsonl.gz cannot be read"],
    ),
    "unequal length": (
        as_lines(b"a\nb\nc\n", b"a\nb\n"),
        ["valid.source has 3 lines and", "valid.target has 2; line N"],
    ),
    "half an example": (as_lines(b"a\n", None), ["valid.target is missing", "half of each example"]),
    "empty line": (as_lines(b"a\nb\n", b"a\n \t\n"), ["valid.target, line 2: the summary is empty"]),
    "not JSON": (replace_line("train.jsonl", 2, b'{"document": "a",'), ["train.jsonl, line 2: not valid JSON"]),
    "blank line": (replace_line("train.jsonl", 2, b""), ["train.jsonl, line 2: not valid JSON"]),
    "not an object": (replace_line("train.jsonl", 2, b'["a", "b"]'), ["train.jsonl, line 2: not a JSON object"]),
    "no field": (
        replace_line("test.jsonl", 3, b'{"document": "a", "highlights": "b"}'),
        ["test.jsonl, line 3: the field 'summary' is missing"],
    ),
    "null": (
        replace_line("test.jsonl", 3, b'{"document": null, "summary": "b"}'),
        ["test.jsonl, line 3: the field 'document' is not a string"],
    ),
    "empty document": (
        replace_line("test.jsonl", 1, b'{"document": " \\n", "summary": "b"}'),
        ["test.jsonl, line 1: the document is empty"],
    ),
    "half a surrogate pair": (
        replace_line("test.jsonl", 1, b'{"document": "a\\ud83d", "summary": "b"}'),
        ["test.jsonl, line 1: the document has half a surrogate pair"],
    ),
    "nothing after BPE": (
        replace_line("valid.jsonl", 1, b'{"document": "a", "summary": "\\u200b"}'),
        ["valid.jsonl, line 1: nothing of the summary is left"],
    ),
    "foreign language": (
        lambda raw: (raw / "test.jsonl").write_text('{"document": "\u4f60 \u597d", "summary": "\u597d"}'),
        ["dict.txt knows", "of the test split"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_writes_nothing(prepare, backbone, tmp_path, capsys, case):
    change, expected = BAD_INPUT[case]
    raw = write_jsonl(tmp_path / "raw")
    change(raw)
    with pytest.raises(SystemExit) as exit:
        prepare.main(arguments(raw, tmp_path / "out" / "data", backbone))
    message = exit.value.code
    assert message.startswith("error: ") and "\n" not in message
    assert all(part in message for part in expected), message
    assert not list((tmp_path / "out").glob("*"))
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("dict.txt", None, "dict.txt is missing"),
        ("dict.txt", "balo 1\nrin\n", "dict.txt, line 2: not 'symbol count'"),
        ("sentencepiece.bpe.model", None, "sentencepiece.bpe.model is missing"),
        ("sentencepiece.bpe.model", "balo", "the BPE model cannot be read"),
    ],
)
def test_unusable_backbone_files(prepare, backbone, tmp_path, name, content, expected):
    folder = tmp_path / "backbone"
    folder.mkdir()
    for file, data in files(backbone).items():
        (folder / file).write_bytes(data)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(SystemExit, match=expected):
        prepare.main(arguments(write_jsonl(tmp_path / "raw"), tmp_path / "data", folder))
    assert not (tmp_path / "data").exists()


def test_data_is_replaced_by_success_only(prepare, backbone, tmp_path):
    raw, data = write_jsonl(tmp_path / "raw"), tmp_path / "out" / "data"
    prepare.main(arguments(raw, data, backbone))
    before = files(data)
    BAD_INPUT["nothing after BPE"][0](raw)  # found late, when encoding
    with pytest.raises(SystemExit, match="error: "):
        prepare.main(arguments(raw, data, backbone))
    assert files(data) == before
    prepare.main(arguments(write_jsonl(raw), data, backbone, "--limit-test", "2"))
    assert len(files(data)["test.summary.txt"].splitlines()) == 2
    assert [path.name for path in data.parent.iterdir()] == ["data"]


def test_folders_that_are_not_ours_stay(prepare, backbone, tmp_path):
    raw = write_jsonl(tmp_path / "mine" / "raw")
    for data, expected in ((tmp_path / "mine", "would replace"), (raw / "train.jsonl", "is a file")):
        with pytest.raises(SystemExit, match=expected):
            prepare.main(arguments(raw, data, backbone))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("thesis")
    with pytest.raises(SystemExit, match="holds other files"):
        prepare.main(arguments(raw, other, backbone))
    assert (other / "thesis.txt").read_text() == "thesis" and len(files(raw)) == 3


def test_a_folder_with_runs_is_not_replaced(prepare, backbone, tmp_path):
    """Each run has a copy of prepare.json, and may lie in the folder of its data."""
    raw, data = write_jsonl(tmp_path / "raw"), tmp_path / "data"
    prepare.main(arguments(raw, data, backbone))
    (data / "run").mkdir()
    (data / "run" / "checkpoint_last.pt").write_text("hours")
    with pytest.raises(SystemExit, match="would replace .*/data/run/checkpoint_last.pt; choose another DATA"):
        prepare.main(arguments(raw, data, backbone))
    assert (data / "run" / "checkpoint_last.pt").read_text() == "hours"


def test_script_from_another_folder(backbone, tmp_path):
    """Relative paths are the caller's; a mistake is one line on stderr."""
    write_jsonl(tmp_path / "raw")
    environment = {**os.environ, "VENV": sys.prefix, "RAW": "raw", "DATA": "data", "BACKBONE_DIR": str(backbone)}
    command = ["bash", str(EXAMPLE / "prepare.sh")]

    def run(**settings: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=tmp_path, env={**environment, **settings}, capture_output=True, text=True, timeout=120
        )

    for settings, expected in (
        ({"RAW": "absent"}, f"error: RAW {tmp_path}/absent: there is no such folder\n"),
        ({"MAX_SOURCE": "many"}, "error: argument --max-source: 'many' is not a whole number of at least 2\n"),
    ):
        done = run(**settings)
        assert (done.returncode, done.stderr) == (1, expected)
    done = run(LIMIT_TRAIN="3")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "data" / "prepare.json").read_text())["splits"]["train"]["examples"] == 3
