"""What --eval-rouge refuses, and what it says about text that it cannot score as it is."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from omegaconf import OmegaConf
from sparse_adapter.errors import UsageError
from sparse_adapter.tasks.eval_rouge import TokenScorer, _codec, _generation_options
from sparse_adapter.text import Codec


def scored(hypotheses: list[str], reference: str, **codec) -> list[float]:
    """ROUGE-1 of single words, of which the first comes again."""
    dictionary = Dictionary()
    symbols = [torch.tensor([dictionary.add_symbol(word)]) for word in (*hypotheses, hypotheses[0], reference)]
    scorer = TokenScorer(dictionary, Codec(**codec), "english")
    return [scorer.score([symbol], symbols[-1:], set())[0]["rouge1"] for symbol in symbols[:-1]]


def test_a_symbol_that_is_no_text_counts_as_empty(caplog):
    numbers = SimpleNamespace(decode=lambda text: str(int(text)))  # as GPT-2's BPE, with an entry that fills up
    assert scored(["madeupword0000", "12"], "12", bpe=numbers) == [0, 100, 0]
    assert caplog.text.count("a hypothesis is no text, and counts as empty") == 1


def test_letters_that_are_no_words_are_named_once(caplog):
    assert scored(["тест"], "тест") == [0, 0]
    assert caplog.text.count("ROUGE ignores 100% of the references' letters; --eval-rouge-words unicode counts") == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ("beam 4", "--eval-rouge-args beam 4 is not JSON"),
        ("[4]", "is not an object"),
        ('{"baem": 4}', "there is no baem here; choose of beam, max_len_a"),
        ('{"score_reference": true}', "there is no score_reference here"),  # which would always be right
        ('{"beam": "4"}', 'beam "4" is no int'),
        ('{"beam": true}', "beam true is no int"),
        ('{"beam": 0}', "beam 0 is less than 1"),
        ('{"lenpen": null}', "lenpen null is no float"),
        ('{"min_len": 10, "max_len_b": 8}', "min_len 10 is more than max_len_b 8"),
    ],
)
def test_options_of_generation_are_checked_before_training(options, message):
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        _generation_options(options)


def test_a_bpe_without_settings():
    """fairseq-validate puts its name alone into the configuration of a checkpoint."""
    cfg = OmegaConf.create({"bpe": "characters", "tokenizer": {"_name": "space"}})
    assert _codec(cfg).decode("a b \u2581 c") == "ab c"


def test_options_of_generation():
    assert vars(_generation_options('{"beam": 4, "lenpen": 1, "max_len_a": 1.2}')) == {
        "beam": 4,
        "lenpen": 1,
        "max_len_a": 1.2,
    }
