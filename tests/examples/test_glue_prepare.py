"""examples/glue/prepare.py: the nine tasks, cutting, special tokens, bad input, nothing half-written."""

import gzip
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import sparse_adapter  # noqa: F401
from fairseq.data import Dictionary, data_utils

from .glue import EXAMPLE, HEADERS, load, sentence, write_bert, write_glue, write_roberta

DATA = Path(os.environ.get("SPARSE_ADAPTER_DATA", Path(__file__).parents[2] / "../shared/data"))
GLUE = DATA / "glue"


@pytest.fixture(scope="module")
def prepare():
    return load("prepare")


@pytest.fixture(scope="module")
def tasks():
    return load("glue_tasks").TASKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tasks) -> Path:
    """glue, bert and roberta: nothing here is changed."""
    root = tmp_path_factory.mktemp("glue")
    write_glue(root / "glue", tasks)
    write_bert(root / "bert")
    write_roberta(root / "roberta")
    return root


@pytest.fixture
def rte(folder, tmp_path) -> Path:
    """A copy of RTE to spoil."""
    shutil.copytree(folder / "glue" / "RTE", tmp_path / "glue" / "RTE")
    return tmp_path / "glue" / "RTE"


def run(prepare, folder: Path, data: Path, task: str = "rte", *more: str, glue=None, backbone="bert") -> dict:
    where = ["--glue-dir", str(glue or folder / "glue"), "--backbone-dir", str(folder / backbone)]
    prepare.main(["--task", task, *where, "--data", str(data), *more])
    return json.loads((data / "prepare.json").read_text())


def symbols(data: Path, name: str, part: str) -> list[list[str]]:
    """Each example's symbols, as fairseq reads them."""
    dictionary = Dictionary.load(str(data / part / "dict.txt"))
    dataset = data_utils.load_indexed_dataset(str(data / part / name), dictionary)
    return [[dictionary[index] for index in item] for item in dataset]


def test_each_task_in_its_order(prepare, tasks, folder, tmp_path):
    assert set(HEADERS) == set(tasks)
    for name, task in tasks.items():
        data = tmp_path / name
        record = run(prepare, folder, data, name)
        assert record["settings"]["num_classes"] == (len(task.labels) or 1)
        counts = {set_: count["examples"] for set_, count in record["sets"].items()}
        assert counts == {"train": 8, **dict.fromkeys(task.dev, 5)}
        assert (data / "input1").exists() == (len(task.texts) == 2)
        for set_, count in counts.items():
            first = [[*sentence(i, 3 + i % 5).split(), '"', "</s>"] for i in range(count)]
            assert symbols(data, set_, "input0") == first
            if len(task.texts) == 2:
                assert symbols(data, set_, "input1") == [
                    [*sentence(i + 1, 2 + i % 4).split(), "</s>"] for i in range(count)
                ]
            if task.regression:
                scores = (data / "label" / f"{set_}.label").read_text().split()
                assert scores == [("0.5", "2.25", "5.000")[i % 3] for i in range(count)]
            else:
                labels = [task.labels[i % len(task.labels)] for i in range(count)]
                assert [label for label, _ in symbols(data, set_, "label")] == labels


@pytest.mark.parametrize("backbone, special", [("bert", 3), ("roberta", 4)])
def test_pairs_are_cut_at_the_longest(prepare, folder, rte, backbone, special, tmp_path):
    header, *_ = (rte / "train.tsv").read_text().split("\n")
    (rte / "train.tsv").write_text(f"{header}\n0\t{'balo ' * 30}\trin omu sed\tentailment\n")
    record = run(prepare, folder, tmp_path / "data", "rte", "--max-length", "16", glue=rte.parent, backbone=backbone)
    parts = [symbols(tmp_path / "data", "train", f"input{i}")[0] for i in (0, 1)]
    assert sum(map(len, parts)) + special - 2 == 16
    if backbone == "bert":
        assert parts == [["balo"] * 10 + ["</s>"], ["rin", "omu", "sed", "</s>"]]
    else:
        assert record["settings"]["separator"] == 2 and [len(part) - 1 for part in parts] == [6, 6]
    assert record["sets"]["train"]["truncated"] == 1
    record = run(prepare, folder, tmp_path / "data", "rte", glue=rte.parent, backbone=backbone)
    assert record["settings"]["max_length"] == 128  # the positions of the backbone


def test_cut_takes_from_the_longest_first(prepare):
    assert prepare.cut([list("abcdef"), list("xyz")], 5) == [list("abc"), list("xy")]
    assert prepare.cut([list("ab"), list("xyz")], 9) == [list("ab"), list("xyz")]
    assert prepare.cut([list("abcdef")], 2) == [list("ab")]


def test_special_tokens_in_a_text_are_unknown(prepare, folder, rte, tmp_path):
    text = (rte / "dev.tsv").read_text().replace(sentence(0, 3), "balo [SEP] rin")
    (rte / "dev.tsv").write_text(text)
    run(prepare, folder, tmp_path / "data", glue=rte.parent)
    assert symbols(tmp_path / "data", "valid", "input0")[0].count("</s>") == 1


def test_the_unknown_piece_has_the_name_that_its_tokenizer_says(prepare, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "<unk>", "[CLS]", "[SEP]", "[MASK]", "balo", ""]))
    (tmp_path / "tokenizer_config.json").write_text('{"unk_token": "<unk>"}')
    assert prepare.load_encoder(tmp_path)("rin balo") == ["<unk>", "balo"]


def test_special_tokens_may_have_other_names(prepare, tmp_path):
    """As convert reads them."""
    (tmp_path / "vocab.txt").write_text("\n".join(["<pad>", "<unk>", "<s>", "</s>", "<mask>", "balo", ""]))
    names = {
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    assert prepare.load_encoder(tmp_path)("rin balo") == ["<unk>", "balo"]


def test_compressed_files_are_read_where_there_is_no_other(prepare, folder, rte, tmp_path):
    before = run(prepare, folder, tmp_path / "plain", glue=rte.parent)
    text = (rte / "train.tsv").read_bytes()
    (rte / "train.tsv.gz").write_bytes(gzip.compress(text))
    (rte / "train.tsv").unlink()
    assert run(prepare, folder, tmp_path / "packed", glue=rte.parent)["sets"] == before["sets"]
    assert symbols(tmp_path / "plain", "train", "input0") == symbols(tmp_path / "packed", "train", "input0")


def test_rows_of_qqp_that_lack_columns_or_a_sentence_are_left_out(prepare, folder, tmp_path):
    shutil.copytree(folder / "glue" / "QQP", tmp_path / "glue" / "QQP")
    for stem in ("train", "dev"):
        path = tmp_path / "glue" / "QQP" / f"{stem}.tsv"
        path.write_text(path.read_text() + "9\t1\t2\tbalo rin\n" + "10\t1\t2\tbalo rin\t \t0\n")
    record = run(prepare, folder, tmp_path / "data", "qqp", glue=tmp_path / "glue")
    assert record["sets"]["train"] == {"examples": 8, "truncated": 0, "unknown_share": 0, "broken_rows": 2}
    assert record["sets"]["valid"]["broken_rows"] == 2


def spoil_line(number: int, text: str):
    def spoil(path: Path) -> None:
        lines = path.read_text().split("\n")
        lines[number - 1] = text
        path.write_text("\n".join(lines))

    return spoil


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (
            spoil_line(3, "1\tbalo\trin\tmaybe"),
            "train.tsv, line 3: the label 'maybe' is not one of entailment, not_ent",
        ),
        (spoil_line(4, "2\tbalo\trin"), "train.tsv, line 4: 3 columns where 4 are due"),
        (spoil_line(2, "0\tbalo\t \tentailment"), "train.tsv, line 2: a sentence is empty"),
        (spoil_line(1, "index\tsentence1\tlabel"), "train.tsv, line 1: the header has no column 'sentence2'"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\xff"), "train.tsv, line 10: byte 0xff is not UTF-8"),
        (lambda path: path.unlink(), "train.tsv is missing"),
        (lambda path: path.write_text("\n"), "train.tsv is empty"),
        (lambda path: path.write_text(HEADERS["rte"] + "\n"), "train.tsv has no examples"),
        (lambda path: path.rename(path.with_name("train.tsv.gz")), "train.tsv.gz cannot be read"),
    ],
)
def test_bad_files_are_one_line_and_leave_the_former_data(prepare, folder, rte, tmp_path, spoil, expected):
    data = tmp_path / "out" / "data"
    run(prepare, folder, data, glue=rte.parent)
    before = (data / "prepare.json").read_bytes()
    spoil(rte / "train.tsv")
    with pytest.raises(SystemExit) as exit:
        run(prepare, folder, data, glue=rte.parent)
    message = str(exit.value)
    assert message.startswith("error: ") and expected in message and "\n" not in message
    assert (data / "prepare.json").read_bytes() == before and [p.name for p in data.parent.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "options, expected",
    [
        (["rtee"], "TASK rtee: there is no such task; did you mean rte?"),
        (["stsb"], "did you mean sts-b?"),
        (["rte", "--max-length", "3"], "at least 8"),
        (["rte", "--glue-dir", "absent"], "GLUE_DIR absent: there is no such folder"),
        (["rte", "--backbone-dir", "absent"], "BACKBONE_DIR absent: there is no such folder"),
    ],
)
def test_bad_settings_are_one_line(prepare, folder, tmp_path, options, expected):
    with pytest.raises(SystemExit) as exit:
        run(prepare, folder, tmp_path / "data", *options)
    assert expected in str(exit.value) and "\n" not in str(exit.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("score", ["5.1", "-1", "nan", "high"])
def test_scores_are_from_0_to_5(prepare, folder, tmp_path, score):
    shutil.copytree(folder / "glue" / "STS-B", tmp_path / "glue" / "STS-B")
    path = tmp_path / "glue" / "STS-B" / "dev.tsv"
    path.write_text(path.read_text().replace("2.25", score, 1))
    with pytest.raises(SystemExit, match=f"dev.tsv, line 3: the score '{score}' is not a number from 0 to 5"):
        run(prepare, folder, tmp_path / "data", "sts-b", glue=tmp_path / "glue")


def test_a_dictionary_of_another_model_is_refused(prepare, folder, tmp_path):
    shutil.copytree(folder / "bert", tmp_path / "other")
    (tmp_path / "other" / "dict.txt").write_text("unlike 1\n")
    with pytest.raises(SystemExit, match="knows 0% of the symbols"):
        run(prepare, folder, tmp_path / "data", backbone=tmp_path / "other")
    (tmp_path / "other" / "vocab.txt").unlink()
    with pytest.raises(SystemExit, match="has no tokenizer"):
        run(prepare, folder, tmp_path / "data", backbone=tmp_path / "other")


def test_the_script_passes_its_settings(folder, tmp_path):
    settings = {"TASK": "cola", "GLUE_DIR": str(folder / "glue"), "BACKBONE_DIR": str(folder / "bert")}
    settings |= {"DATA": "data", "LIMIT_TRAIN": "3", "MAX_LENGTH": "9"}
    command = ["bash", str(EXAMPLE / "prepare.sh")]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "data" / "prepare.json").read_text())
    assert record["sets"]["train"]["examples"] == 3 and record["settings"]["max_length"] == 9


# Counted in the files: examples of train and dev, and the commonest label of each.
REAL = {
    "cola": ((8551, ("1", 6023)), (1043, ("1", 721))),
    "mrpc": ((3667, ("1", 2473)), (408, ("1", 279))),
    "rte": ((2490, ("entailment", 1249)), (277, ("entailment", 146))),
    "sts-b": ((5749, None), (1500, None)),
}


@pytest.mark.skipif(not GLUE.is_dir(), reason="needs the GLUE files")
@pytest.mark.parametrize("name", REAL)
def test_real_files_parse_completely(tasks, name):
    read_examples = load("glue_tasks").read_examples
    for stem, (count, commonest) in zip(("train", "dev"), REAL[name], strict=True):
        examples, broken = read_examples(tasks[name], GLUE, stem)
        assert (len(examples), broken) == (count, 0)
        if commonest:
            assert Counter(example.label for example in examples).most_common(1) == [commonest]
        else:
            assert len({example.label for example in examples}) > 40


def own(root: Path, header: str, rows: list[str]) -> Path:
    (root / "mine").mkdir(parents=True)
    for stem in ("train", "dev"):
        (root / "mine" / f"{stem}.tsv").write_text("\n".join([header, *rows, ""]))
    return root


def test_a_task_of_one_s_own(prepare, folder, tmp_path):
    rows = [f"{sentence(i, 4)}\t{label}\tx" for i, label in enumerate(["very good", "bad", "so so"] * 3)]
    glue = own(tmp_path / "glue", "sentence\tlabel\tnote", rows)
    record = run(prepare, folder, tmp_path / "data", "mine", glue=glue)
    assert (record["settings"]["num_classes"], record["settings"]["labels"]) == (3, ["bad", "so so", "very good"])
    labels = symbols(tmp_path / "data", "valid", "label")
    assert [item[0] for item in labels] == ["very good", "bad", "so so"] * 3
    task = load("glue_tasks").recorded_task(record["settings"])
    assert task.labels == ("bad", "so so", "very good") and task.metrics == ("accuracy",)
    assert task.texts == ("sentence",)


def test_a_task_of_one_s_own_in_a_folder_further_down(prepare, folder, tmp_path):
    own(tmp_path / "glue" / "domains", "sentence\tlabel", [f"{sentence(i, 4)}\t{i % 2}" for i in range(8)])
    record = run(prepare, folder, tmp_path / "data", "domains/mine", glue=tmp_path / "glue")
    assert record["sets"]["train"]["examples"] == 8


def test_scores_of_one_s_own(prepare, folder, tmp_path):
    rows = [f"{-7.5 * i}\t{sentence(i, 4)}\t{sentence(i, 3)}" for i in range(6)]
    glue = own(tmp_path / "glue", "score\tsentence1\tsentence2", rows)
    record = run(prepare, folder, tmp_path / "data", "mine", glue=glue)
    assert (record["settings"]["num_classes"], record["settings"]["labels"]) == (1, [])
    assert (tmp_path / "data/label/valid.label").read_text().split() == [str(-7.5 * i) for i in range(6)]
    task = load("glue_tasks").recorded_task(record["settings"])
    assert task.regression and task.metrics == ("pearson", "spearman")
    assert task.texts == ("sentence1", "sentence2")


@pytest.mark.parametrize(
    "header, cells, expected",
    [
        ("sentence\tlabel", ["a", "b", "c", "d"], "4 different labels in 4 rows; call the column score"),
        ("sentence\tlabel", ["a"] * 4, "1 different labels in 4 rows"),
        ("text\tlabel", ["a", "b"] * 2, "line 1: the header has no column 'sentence'"),
        ("sentence\tclass", ["a", "b"] * 2, "line 1: the header has neither a column 'label' nor 'score'"),
        ("sentence\tscore", ["1", "inf", "2", "3"], "line 3: the score 'inf' is not a number"),
        ("sentence\tlabel", ["a", "<unk>", "a", "<unk>"], "has the label <unk>, which is a special symbol of fairseq"),
        ("sentence\tlabel", ["a", "b", "a", ""], "line 5: the label '' is not one of a, b"),
    ],
)
def test_mistakes_in_one_s_own_task(prepare, folder, tmp_path, header, cells, expected):
    glue = own(tmp_path / "glue", header, [f"{sentence(i, 4)}\t{cell}" for i, cell in enumerate(cells)])
    with pytest.raises(SystemExit) as exit:
        run(prepare, folder, tmp_path / "data", "mine", glue=glue)
    assert expected in str(exit.value) and not (tmp_path / "data").exists()
