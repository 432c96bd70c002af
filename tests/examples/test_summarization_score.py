"""examples/summarization/score.py: order of the hypotheses, ROUGE against hand computations, the lead baseline."""

import gzip
import importlib.util
import json
import os
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "summarization"
XSUM = Path(os.environ.get("SPARSE_ADAPTER_DATA", Path(__file__).parents[2] / "../shared/data")) / "xsum"


@pytest.fixture(scope="module")
def score():
    spec = importlib.util.spec_from_file_location("summarization_score", EXAMPLE / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "test.summary.txt").write_text("the cat ran fast\nbalo rin\ngolti hapu\n")
    return folder


def block(index: int, *hypotheses: str) -> str:
    """What fairseq-generate prints for an example."""
    lines = [f"S-{index}\ta source", f"T-{index}\ta target"]
    for i, text in enumerate(hypotheses):
        lines += [f"H-{index}\t-0.{i}5\t▁raw", f"D-{index}\t-0.{i}5\t{text}", f"P-{index}\t-0.1000 -0.2000"]
    return "\n".join(lines) + "\n"


def write_log(folder: Path, *blocks: str) -> Path:
    log = folder / "generate-test.log"
    log.write_text("INFO | loading\n" + "INFO | progress\n".join(blocks) + "Generate test with beam=6: BLEU4 = 0\n")
    return log


def test_one_line_for_each_example_in_the_order_of_the_file(score, data, tmp_path):
    # Byte-level BPE can produce tabs and line breaks, and a line that looks like another example's.
    log = write_log(tmp_path, block(2, "golti\n\thapu  virr\nS-9\tx", "worse"), block(0, "the cat sat"), block(1, ""))
    score.main(["--data", str(data), "--log", str(log), "--save-dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "hypotheses.txt").read_text() == "the cat sat\n\ngolti hapu virr S-9 x\n"
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert list(scores) == ["rouge1", "rouge2", "rougeL", "rougeLsum", "n"]
    # F1 of 2/3 and 2/4; nothing; 2/6 ("s", "9" and "x" are words) and 2/2.
    assert scores["rouge1"] == pytest.approx(100 * (4 / 7 + 0 + 1 / 2) / 3, abs=1e-4)
    # Bigrams: 1/2 and 1/3; nothing; 1/5 and 1/1.
    assert scores["rouge2"] == pytest.approx(100 * (2 / 5 + 0 + 1 / 3) / 3, abs=1e-4)
    assert scores["n"] == 3
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["hypotheses.txt", "scores.json"]


def test_rouge_by_hand(score):
    scores = score.mean_rouge(["c d e f. A b."], ["A b. C d x y."])
    # In common: a b c d, of 6 words each; bigrams a-b and c-d of 5 each, across the sentences' ends.
    assert scores["rouge1"] == pytest.approx(100 * 4 / 6, abs=1e-4)
    assert scores["rouge2"] == pytest.approx(100 * 2 / 5, abs=1e-4)
    # The longest common subsequence is "a b" or "c d"; sentence by sentence both are found.
    assert scores["rougeL"] == pytest.approx(100 * 2 / 6, abs=1e-4)
    assert scores["rougeLsum"] == pytest.approx(100 * 4 / 6, abs=1e-4)
    # The same where only one side has two sentences.
    for hypothesis, reference in (("c d a b", "A b. C d."), ("C d. A b.", "a b c d")):
        scores = score.mean_rouge([hypothesis], [reference])
        assert (scores["rougeL"], scores["rougeLsum"]) == (50, 100)


def test_words_of_other_scripts(score):
    pairs = {"Größe hört": "Gräße hürt", "это тест": "нет", "日本語の要約": "中国", "हिन्दी में": "नहीं"}
    for text, other in pairs.items():
        assert score.mean_rouge([text], [text], "unicode")["rouge1"] == 100
        assert score.mean_rouge([text], [other], "unicode")["rouge1"] == 0
    assert score.mean_rouge(["日本語の"], ["日本"], "unicode")["rouge1"] == pytest.approx(100 * 2 / 3, abs=1e-3)
    assert score.ignored_letters(["abc", "1, é"]) == "ROUGE ignores 25% of the references' letters"
    assert score.ignored_letters(99 * ["a"] + ["é"]) is None


def test_stemmer_is_on(score):
    assert score.mean_rouge(["jumping horses"], ["jumped horse"])["rouge2"] == 100


def test_missing_hypotheses_are_named_and_nothing_is_written(score, data, tmp_path):
    run = tmp_path / "run"
    for blocks, expected in (
        ([block(1, "balo")], "1 hypotheses for 3 references: no hypothesis for 0, 2 "),
        ([block(i, "a") for i in range(5)], "5 hypotheses for 3 references: no reference for 3, 4 "),
    ):
        log = write_log(tmp_path, *blocks)
        with pytest.raises(SystemExit) as exit:
            score.main(["--data", str(data), "--log", str(log), "--save-dir", str(run)])
        assert exit.value.code.startswith("error: ") and "\n" not in exit.value.code
        assert expected in exit.value.code
    with pytest.raises(SystemExit, match="error: .*absent.log is missing"):
        score.main(["--data", str(data), "--log", str(tmp_path / "absent.log"), "--save-dir", str(run)])
    assert not run.exists()


def test_valid_keeps_to_its_own_files(score, data, tmp_path):
    (data / "valid.summary.txt").write_text("balo\n")
    log = write_log(tmp_path, block(0, "balo"))
    score.main(["--data", str(data), "--subset", "valid", "--log", str(log), "--save-dir", str(tmp_path / "run")])
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["hypotheses-valid.txt", "scores-valid.json"]
    with pytest.raises(SystemExit, match=r"error: .*train.summary.txt is missing"):
        score.main(["--data", str(data), "--subset", "train", "--log", str(log), "--save-dir", str(tmp_path / "run")])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("One here. Two there! Three?", ["One here.", "Two there!", "Three?"]),
        ("Mr. Balo met Dr. Rin at 5.30 p.m. today. He left.", ["Mr. Balo met Dr. Rin at 5.30 p.m. today.", "He left."]),
        ('He said: "Go." She went.', ['He said: "Go."', "She went."]),
        ("J. K. Tesk wrote it. 12 read it.", ["J. K. Tesk wrote it.", "12 read it."]),
        ("Prices rose 3.5% in Q1... then fell.", ["Prices rose 3.5% in Q1... then fell."]),
        ("Émile. Élan", ["Émile.", "Élan"]),
        ("no end", ["no end"]),
        ("", [""]),
    ],
)
def test_sentences(score, text, expected):
    assert score.sentences(text) == expected


def test_lead(score, data, tmp_path):
    (data / "test.document.txt").write_text("The cat ran. It hid.\nBalo. Rin.\nHapu golti. Virr. Omu.\n")
    for lead, hypotheses in (
        ("1", "The cat ran.\nBalo.\nHapu golti.\n"),
        ("2", "The cat ran. It hid.\nBalo. Rin.\nHapu golti. Virr.\n"),
    ):
        score.main(["--data", str(data), "--lead", lead, "--save-dir", str(tmp_path / lead)])
        assert (tmp_path / lead / "hypotheses.txt").read_text() == hypotheses
    scores = json.loads((tmp_path / "1" / "scores.json").read_text())
    # 3/3 and 3/4; 1/1 and 1/2; 2/2 and 2/2, in the other order.
    assert scores["rouge1"] == pytest.approx(100 * (6 / 7 + 2 / 3 + 1) / 3, abs=1e-4)
    assert scores["rougeL"] == pytest.approx(100 * (6 / 7 + 2 / 3 + 1 / 2) / 3, abs=1e-4)
    with pytest.raises(SystemExit, match="error: --lead 0"):
        score.main(["--data", str(data), "--lead", "0", "--save-dir", str(tmp_path / "0")])


@pytest.mark.skipif(not (XSUM / "test.jsonl.gz").exists(), reason="needs xsum in SPARSE_ADAPTER_DATA")
def test_lead_on_xsum_is_what_was_published(score, tmp_path):
    """Lead of the whole XSum test set: 16.30 / 1.60 / 11.95 (Narayan et al. 2018)."""
    with gzip.open(XSUM / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    for what in ("document", "summary"):
        lines = (" ".join(record[what].split()) + "\n" for record in records)
        (tmp_path / f"test.{what}.txt").write_text("".join(lines), encoding="utf-8")
    score.main(["--data", str(tmp_path), "--lead", "1", "--save-dir", str(tmp_path)])
    scores = json.loads((tmp_path / "scores.json").read_text())
    published = {"rouge1": 16.30, "rouge2": 1.60, "rougeL": 11.95}
    assert {metric: scores[metric] for metric in published} == pytest.approx(published, abs=0.7)
