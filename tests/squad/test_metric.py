"""Exact match and F1 against cases computed by hand, and against another implementation on real answers."""

import gzip
import json
import os
import random
from pathlib import Path

import pytest
from sparse_adapter.squad import exact_match, f1, score
from sparse_adapter.squad.metric import normalize

SQUAD = Path(os.environ.get("SPARSE_ADAPTER_DATA", Path(__file__).parents[2] / "../shared/data")) / "squad"
DEV = SQUAD / "dev-v1.1-half.json.gz"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The  Balo,\tof\n rin!", "balo of rin"),
        ("a an the", ""),
        ("theatre another a-b", "theatre another ab"),  # articles are whole words, and punctuation goes first
        ("U.S. $1,000 (approx.)", "us 1000 approx"),
        ("«Été» – l’an", "«été» – l’"),  # ASCII punctuation only, and \b sees the article behind ’
        ("It's", "its"),
    ],
)
def test_normalize(text, expected):
    assert normalize(text) == expected


def test_exact_match():
    assert exact_match("the Rin.", "rin") == 1
    assert exact_match("rin balo", "rin") == 0
    assert exact_match("", "The") == 1


def test_f1_by_hand():
    assert f1("the balo rin", "rin hapu balo tesk") == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert f1("balo balo rin", "balo rin rin") == pytest.approx(2 / 3)  # each word as often as both have it
    assert f1("balo", "rin") == 0
    assert f1("a", "the") == 0  # as in version 1.1 of the script; exact match is 1


def test_best_of_several_answers_each_for_itself():
    assert score("balo rin", ["hapu", "The balo rin!", "rin"]) == (1, 1)
    assert score("balo rin tesk omu", ["balo rin", "tesk"]) == (0, pytest.approx(2 / 3))


@pytest.mark.skipif(not DEV.exists(), reason="needs squad in SPARSE_ADAPTER_DATA")
def test_as_transformers_has_it_on_real_answers():
    reference = pytest.importorskip("transformers.data.metrics.squad_metrics")
    with gzip.open(DEV, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    generator = random.Random(0)
    compared = 0
    for paragraph in (p for article in articles for p in article["paragraphs"]):
        for qa in paragraph["qas"]:
            words = paragraph["context"].split(" ")
            start = generator.randrange(len(words))
            guess = " ".join(words[start : start + generator.randint(1, 6)])
            for answer in [*(a["text"] for a in qa["answers"]), guess]:
                assert normalize(answer) == reference.normalize_answer(answer)
                assert exact_match(guess, answer) == reference.compute_exact(answer, guess)
                if normalize(guess) and normalize(answer):  # it follows version 2.0 where nothing is left
                    assert f1(guess, answer) == pytest.approx(reference.compute_f1(answer, guess))
                    compared += 1
    assert compared > 10000
