import random

import pytest
from sparse_adapter.errors import UsageError
from sparse_adapter.text import Codec, text_options


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory) -> str:
    sentencepiece = pytest.importorskip("sentencepiece")
    prefix, generator = tmp_path_factory.mktemp("sentencepiece") / "model", random.Random(1)
    lines = [" ".join(generator.choices(["open", "the", "file", "close", "window"], k=6)) for _ in range(50)]
    trainer = sentencepiece.SentencePieceTrainer
    size = {"vocab_size": 30, "hard_vocab_limit": False}
    trainer.Train(sentence_iterator=iter(lines), model_prefix=str(prefix), minloglevel=2, **size)
    return f"{prefix}.model"


def test_without_a_bpe_a_text_is_its_symbols():
    codec = Codec.build()
    assert codec.encode("▁open ▁the") == codec.decode("▁open ▁the") == "▁open ▁the"


def test_sentencepiece_there_and_back(sentencepiece_model):
    codec = Codec.build(bpe="sentencepiece", sentencepiece_model=sentencepiece_model)
    pieces = codec.encode("open the window")
    assert pieces.split()[0].startswith("▁") and len(pieces.split()) >= 3
    assert codec.decode(pieces) == "open the window"


def test_blanks_around_a_text_are_no_symbols():
    codec = Codec.build(bpe="characters")
    assert codec.encode(" ab c ") == codec.encode("ab c") == "a b ▁ c"


def test_the_tokenizer_acts_outside_the_bpe(sentencepiece_model):
    codec = Codec.build(tokenizer="space", bpe="sentencepiece", sentencepiece_model=sentencepiece_model)
    assert codec.decode(codec.encode("open   the\twindow")) == "open the window"


def test_options_are_those_of_fairseqs_flags():
    assert {"sentencepiece_model", "bpe_codes", "gpt2_encoder_json", "moses_no_escape"} <= set(text_options())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"bpe": "sentencpiece"}, "unknown --bpe sentencpiece: choose one of"),
        ({"tokenizer": "mosses"}, "unknown --tokenizer mosses: choose one of moses"),
        ({"bpe": "sentencepiece"}, "--bpe sentencepiece needs --sentencepiece-model"),
        ({"bpe": "sentencepiece", "sentencepiece_model": "/none"}, "--bpe sentencepiece cannot be used"),
        ({"sentence_piece": "x"}, "unknown option sentence_piece"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Codec.build(**options)
