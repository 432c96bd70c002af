"""examples/squad/windows.py and prepare.py: windows that cover the context, answers that map back to their text."""

import gzip
import importlib.util
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary
from sparse_adapter.errors import UsageError
from sparse_adapter.squad.dataset import load_split

from .glue import write_bert
from .squad_data import CONTEXTS, make_backbone_dir, make_squad, write_squad

EXAMPLE = Path(__file__).parents[2] / "examples" / "squad"
SQUAD = Path(os.environ.get("SPARSE_ADAPTER_DATA", Path(__file__).parents[2] / "../shared/data")) / "squad"
TRAIN, DEV = SQUAD / "train-v1.1-first44articles.json.gz", SQUAD / "dev-v1.1-half.json.gz"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def windows():
    return load("windows")


@pytest.fixture(scope="module")
def prepare(windows):
    sys.modules["windows"] = windows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logging.disable", lambda level: None)
        yield load("prepare")
    del sys.modules["windows"]


@pytest.fixture
def folder(tmp_path) -> Path:
    make_backbone_dir(tmp_path / "backbone")
    write_squad(tmp_path / "train.json", make_squad())
    write_squad(tmp_path / "dev.json.gz", make_squad("dev"))
    return tmp_path


def arguments(folder: Path, *extra: str) -> list[str]:
    files = {"--train": "train.json", "--dev": "dev.json.gz", "--backbone-dir": "backbone", "--data": "data"}
    return [*(x for flag, name in files.items() for x in (flag, str(folder / name))), *extra]


SHORT = ("--max-length", "32", "--max-question", "8", "--doc-stride", "5")


def spans_of(folder: Path, split: str) -> list[tuple]:
    """For each question of a prepared split, its record and the text that each window points to, or None."""
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    dataset = load_split(folder, split, dictionary)
    found = []
    for index, question in enumerate(dataset.questions):
        texts, item = [], dataset[index]
        for tokens, target, chars in zip(item["tokens"], item["targets"], item["chars"], strict=True):
            first, last = (int(position) - (len(tokens) - 1 - len(chars)) for position in target)
            assert (target == 0).all() or 0 <= first <= last < len(chars)
            texts.append(None if (target == 0).all() else question.context[chars[first, 0] : chars[last, 1]])
        found.append((question, texts))
    return found


@pytest.mark.parametrize("context, question, separators", [(100, 7, 1), (100, 7, 2), (3, 7, 1), (0, 7, 1), (23, 7, 1)])
def test_windows_cover_the_context_one_stride_apart(windows, context, question, separators):
    cut = list(windows.cut(context, question, separators, 32, 5))
    assert sorted({i for w in cut for i in range(w.first, w.last)}) == list(range(context))
    assert all(w.before + w.last - w.first + 1 <= 32 for w in cut)
    assert {b.first - a.first for a, b in itertools.pairwise(cut)} <= {5}
    assert all(w.before == 1 + question + separators for w in cut)
    assert len(cut) == 1 + max(0, -(-(context - (32 - cut[0].before - 1)) // 5))


def test_a_stride_beyond_the_window_leaves_nothing_out(windows):
    cut = list(windows.cut(100, 7, 1, 32, 1000))
    assert [w.first for w in cut] == [0, 22, 44, 66, 88] and cut[-1].last == 100


def test_an_answer_counts_where_all_of_it_is_in_the_window(windows):
    window = windows.Window(10, 20, 5)
    assert window.target((10, 10)) == (5, 5) and window.target((12, 19)) == (7, 14)
    assert window.target((9, 12)) == window.target((12, 20)) == window.target(None) == (0, 0)


def test_prepared_windows_point_to_the_answers(prepare, folder):
    prepare.main(arguments(folder, *SHORT))
    questions = {q["id"]: q for a in make_squad("dev")["data"] for p in a["paragraphs"] for q in p["qas"]}
    several = 0
    for question, texts in spans_of(folder / "data", "valid"):
        answer = questions[question.id]["answers"][0]["text"]
        assert {*texts} <= {answer, None} and answer in texts
        assert question.windows == len(texts)
        several += len(texts) > 1
    assert several > 0


@pytest.mark.parametrize(
    "devices, tokens, batches", [("1", "4096", "16"), ("4", "1024", "64"), ("3", "1365", "49"), ("500", "32", "2048")]
)
def test_devices_share_the_tokens_of_an_update(prepare, folder, capsys, monkeypatch, devices, tokens, batches):
    prepare.main(arguments(folder, *SHORT))
    write_bert(folder / "bert")
    shutil.copyfile(folder / "data" / "dict.txt", folder / "bert" / "dict.txt")
    monkeypatch.setattr("logging.disable", lambda level: None)
    monkeypatch.setenv("WORLD_SIZE", devices)
    capsys.readouterr()
    for given in (False, True):
        if given:
            monkeypatch.setenv("MAX_TOKENS", "512")
        load("train_flags").main(["--data", str(folder / "data"), "--backbone", str(folder / "bert" / "model.pt")])
        words = capsys.readouterr().out.splitlines()
        flags = dict(zip(words, words[1:], strict=False))
        said = (flags.get("--max-tokens"), flags.get("--prune-batches"))
        assert said == ((None, None) if given else (tokens, batches))


def test_windows_have_the_layout_of_bert(prepare, folder):
    prepare.main(arguments(folder, *SHORT))
    dictionary = Dictionary.load(str(folder / "data" / "dict.txt"))
    dataset = load_split(folder / "data", "train", dictionary)
    assert dataset.questions is None
    for index in range(len(dataset)):
        tokens = dataset[index]["tokens"][0]
        assert len(tokens) <= 32 and tokens[0] == dictionary.bos() and tokens[-1] == dictionary.eos()
        assert (tokens == dictionary.eos()).sum() == 2 and (tokens != dictionary.pad()).all()


def test_the_unknown_piece_has_the_name_that_its_tokenizer_says(windows, folder):
    backbone = folder / "backbone"
    text = (backbone / "vocab.txt").read_text(encoding="utf-8").replace("[UNK]", "<unk>")
    (backbone / "vocab.txt").write_text(text, encoding="utf-8")
    (backbone / "tokenizer_config.json").write_text('{"unk_token": "<unk>"}')
    assert windows.load_encoder(backbone).encode("\u4e2d balo").symbols[0] == "<unk>"


def test_answers_of_white_space_are_counted_and_named(prepare, folder, capsys):
    data = make_squad()
    paragraph = data["data"][0]["paragraphs"][0]
    space = paragraph["context"].index(" ")
    answers = [{"text": " ", "answer_start": space}]
    paragraph["qas"].append({"id": "blank", "question": "what is blank ?", "answers": answers})
    write_squad(folder / "train.json", data)
    prepare.main(arguments(folder))
    record = json.loads((folder / "data" / "prepare.json").read_text())["splits"]["train"]
    assert record["answers_without_tokens"] == ["blank"] and record["answers_not_in_context"] == []
    assert "of 1 left out, white space alone (blank)" in capsys.readouterr().out


def test_answers_that_are_not_there_are_counted_and_named(prepare, folder, capsys):
    data = make_squad()
    qas = data["data"][0]["paragraphs"][0]["qas"]
    qas.append({"id": "shifted", "question": "what is wrong ?", "answers": [{"text": "balo", "answer_start": 3}]})
    write_squad(folder / "train.json", data)
    prepare.main(arguments(folder))
    record = json.loads((folder / "data" / "prepare.json").read_text())
    assert record["splits"]["train"]["answers_not_in_context"] == ["shifted"]
    assert record["splits"]["train"]["questions"] == sum(
        len(p["qas"]) for a in make_squad()["data"] for p in a["paragraphs"]
    )
    assert "1 questions not in their context (shifted)" in capsys.readouterr().out


def test_an_evaluated_question_stays_whatever_its_answer(prepare, folder):
    data = make_squad("dev")
    data["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 10_000
    id = data["data"][0]["paragraphs"][0]["qas"][0]["id"]
    write_squad(folder / "dev.json.gz", data)
    prepare.main(arguments(folder))
    texts = {question.id: texts for question, texts in spans_of(folder / "data", "valid")}
    assert texts[id] == [None]


@pytest.mark.parametrize(
    "content, expected",
    [
        ("{", "is not JSON"),
        ("[]", "has no list 'data': not a SQuAD v1.1 file"),
        ('{"data": [{"title": "x"}]}', "data[0] has no list 'paragraphs'"),
        ('{"data": []}', "has no questions"),
        (json.dumps({"data": [{"paragraphs": [{"qas": []}]}]}), "paragraphs[0] has no string 'context'"),
        (
            json.dumps(
                {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "1", "question": "q", "answers": []}]}]}]}
            ),
            "qas[0]: a question without answers; SQuAD v1.1 has none",
        ),
        (
            json.dumps({"data": [{"paragraphs": [{"context": "\ud800", "qas": []}]}]}),
            "'context' has half a surrogate pair",
        ),
    ],
)
def test_other_files_end_in_one_line(prepare, folder, content, expected):
    (folder / "train.json").write_text(content)
    with pytest.raises(SystemExit) as exit:
        prepare.main(arguments(folder))
    assert exit.value.code.startswith("error: ") and expected in exit.value.code and "\n" not in exit.value.code
    assert not (folder / "data").exists() and not list(folder.glob(".data*"))


@pytest.mark.parametrize("part", ["question", "context"])
def test_nothing_left_after_tokenisation_is_told(prepare, folder, part):
    data = make_squad("dev")
    paragraph = data["data"][0]["paragraphs"][0]
    (paragraph["qas"][0] if part == "question" else paragraph)[part] = " \u200b"
    write_squad(folder / "dev.json.gz", data)
    with pytest.raises(SystemExit, match="^error: question dev-0-0: nothing of it, or of its context, is left after"):
        prepare.main(arguments(folder))
    assert not (folder / "data").exists()


def test_refusals(prepare, folder, tmp_path):
    data = make_squad()
    data["data"][0]["paragraphs"][0]["qas"] *= 2
    for change, expected in (
        (lambda: (folder / "train.json").unlink(), "there is no such file"),
        (lambda: write_squad(folder / "train.json", data), "was there before"),
        (lambda: (folder / "dev.json.gz").write_bytes(gzip.compress(b"{}")[:-4]), "cannot be read"),
        (lambda: (folder / "backbone" / "vocab.txt").unlink(), "has no tokenizer"),
    ):
        make_backbone_dir(folder / "backbone")
        write_squad(folder / "train.json", make_squad())
        write_squad(folder / "dev.json.gz", make_squad("dev"))
        change()
        with pytest.raises(SystemExit, match=f"^error: .*{expected}"):
            prepare.main(arguments(folder))
    (folder / "data").mkdir()
    (folder / "data" / "mine.txt").touch()
    with pytest.raises(SystemExit, match="holds other files"):
        prepare.main(arguments(folder))
    with pytest.raises(SystemExit, match="leaves no room beside a question"):
        prepare.main(arguments(folder, "--max-length", "40", "--max-question", "30"))


def test_characters_of_tokens_are_those_of_the_original(windows, tmp_path):
    make_backbone_dir(tmp_path)
    encoder = windows.load_encoder(tmp_path)
    for context in CONTEXTS:
        text = encoder.encode(context)
        assert len(text.symbols) == len(text.chars)
        covered = "".join(context[start:end] for start, end in text.chars)
        assert covered == "".join(context.split()).replace("\u200b", "")  # which is no character to BERT
        for start in range(len(context)):
            for end in range(start + 1, min(start + 12, len(context) + 1)):
                if context[start:end].strip(" \n\u00a0\u200b"):
                    first, last = text.span(start, end)
                    inside = context[text.chars[first][0] : text.chars[last][1]]
                    assert context[start:end].strip(" \n\u00a0\u200b") in inside
    # A text that spells special tokens has none of them.
    assert "[SEP]" not in encoder.encode("balo [SEP] rin").symbols


@pytest.mark.parametrize("context", ["go ที่นี่ now", "go तु now", "go ❤\ufe0f now", "go cafe\u0301 now"])
def test_marks_that_leave_no_token_stay_with_the_one_before(windows, tmp_path, context):
    make_backbone_dir(tmp_path)
    text = windows.load_encoder(tmp_path).encode(context)
    first, last = text.span(3, len(context) - 4)
    assert context[text.chars[first][0] : text.chars[last][1]] == context[3:-4]


@pytest.mark.parametrize("hidden", ["\u200e", "\u200b", "\u00ad", "\u0301\u200e"])
def test_no_answer_ends_in_what_is_not_seen(windows, tmp_path, hidden):
    make_backbone_dir(tmp_path)
    text = windows.load_encoder(tmp_path).encode(f"go balo{hidden} now")
    first, last = text.span(3, 7)
    assert (first, last) == (text.span(3, 4)[0], text.span(6, 7)[1])
    assert text.chars[last][1] == 7 + hidden.startswith("\u0301")


def test_white_space_around_questions_and_answers_means_nothing(prepare, folder, tmp_path, capsys):
    prepare.main(arguments(folder, *SHORT))
    plain = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
    data = make_squad()
    for paragraph in data["data"][0]["paragraphs"]:
        for qa in paragraph["qas"]:
            qa["question"] = f" \n {qa['question']} "
    answer = data["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]
    answer["text"], answer["answer_start"] = f" {answer['text']}", answer["answer_start"] - 1
    write_squad(folder / "train.json", data)
    prepare.main(arguments(folder, *SHORT))
    for name, content in plain.items():
        if name.startswith(("train.tokens", "train.targets")):
            assert (folder / "data" / name).read_bytes() == content
    before, after = (
        json.loads(text)["splits"] for text in (plain["prepare.json"], (folder / "data/prepare.json").read_bytes())
    )
    assert before["train"]["answers_inside_tokens"] == after["train"]["answers_inside_tokens"]


def test_gpt2_bpe_gives_the_symbols_of_fairseq(windows, tmp_path):
    """A byte-level BPE without merges but for two; fairseq's own encoder is the reference."""
    from fairseq.data.encoders.gpt2_bpe_utils import bytes_to_unicode, get_encoder

    symbols = [*bytes_to_unicode().values(), "ba", "Ġr"]
    (tmp_path / "encoder.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\nb a\nĠ r\n", encoding="utf-8")
    encoder = windows.load_encoder(tmp_path)
    reference = get_encoder(str(tmp_path / "encoder.json"), str(tmp_path / "vocab.bpe"))
    assert encoder.separators == 2
    for context in (*CONTEXTS, "balo rin's 3,000 ba", " balo rin", "\n balo rin"):
        text = encoder.encode(context)
        assert text.symbols == [str(i) for i in reference.encode(context)]
        for word in context.split():
            start = context.index(word)
            first, last = text.span(start, start + len(word))
            assert context[text.chars[first][0] : text.chars[last][1]] == word


@pytest.mark.skipif(not (TRAIN.exists() and DEV.exists()), reason="needs squad in SPARSE_ADAPTER_DATA")
@pytest.mark.parametrize("length", [384, 96])
def test_real_answers_come_back_as_they_are(prepare, windows, tmp_path, length):
    """With a vocabulary of characters: an answer that begins and ends with words is what its window points to."""
    make_backbone_dir(tmp_path / "backbone")
    paths = {"--train": DEV, "--dev": TRAIN, "--backbone-dir": tmp_path / "backbone", "--data": tmp_path / "data"}
    extra = ["--max-length", str(length), "--limit-dev", "1000", "--limit-train", "5"]
    prepare.main([*(str(x) for pair in paths.items() for x in pair), *extra])
    examples = {example.id: example for example in windows.read_squad(TRAIN)}
    record = json.loads((tmp_path / "data" / "prepare.json").read_text())["splits"]["valid"]
    cut_tokens = {*record["answers_inside_tokens"]}
    pointed = 0
    for question, texts in spans_of(tmp_path / "data", "valid"):
        answer = examples[question.id].answers[0][0]
        for text in filter(None, texts):
            pointed += 1
            assert answer in text if question.id in cut_tokens else answer == text
    assert record["answers_not_in_context"] == [] and len(cut_tokens) < 20
    assert pointed >= 1000 - 5 if length == 384 else pointed > 200


def test_targets_train_with_offsets_from_zero(prepare, folder):
    prepare.main(arguments(folder))
    dictionary = Dictionary.load(str(folder / "data" / "dict.txt"))
    dataset = load_split(folder / "data", "train", dictionary)
    sample = dataset.collater([dataset[i] for i in range(len(dataset))])
    assert sample["target"].dtype == torch.long
    with pytest.raises(UsageError, match="holds no split 'test'"):
        load_split(folder / "data", "test", dictionary)
