"""Dictionaries: text goes to the same rows of the embedding as in transformers."""

import json
import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.encoders.gpt2_bpe import GPT2BPE
from fairseq.data.encoders.hf_bert_bpe import BertBPE
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE
from sparse_adapter.convert.byte_bpe import read_byte_bpe
from sparse_adapter.convert.pieces import LANGUAGES
from sparse_adapter.convert.tokenizer_files import added_tokens
from sparse_adapter.convert.vocabulary import MASK, SPECIAL, Vocabulary
from sparse_adapter.convert.wordpiece import normalization, read_wordpiece, unknown_token
from sparse_adapter.errors import UsageError

from .conftest import TEXT, convert

DATA = Path(os.environ.get("SPARSE_ADAPTER_DATA", Path(__file__).parents[3] / "shared" / "data")) / "gpt2_bpe"
CLASSES = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "bart": "BartModel",
    "mbart": "MBartModel",
}
LINES = [*TEXT, "a fox, quickly!", "quick  readings Überraschung", ""]


def fairseq_bpe(kind: str, folder: Path):
    if kind == "bert":
        return BertBPE(Namespace(bpe_cased=False, bpe_vocab_file=str(folder / "vocab.txt")))
    if kind in ("roberta", "bart"):
        files = {"gpt2_encoder_json": folder / "encoder.json", "gpt2_vocab_bpe": folder / "vocab.bpe"}
        return GPT2BPE(Namespace(**{name: str(file) for name, file in files.items()}))
    model = str(folder / "sentencepiece.bpe.model")
    return SentencepieceBPE(
        Namespace(sentencepiece_model=model, sentencepiece_enable_sampling=False, sentencepiece_alpha=None)
    )


def embedding(folder: Path) -> torch.Tensor:
    weights = torch.load(folder / "model.pt", weights_only=True)["model"]
    return next(value for key, value in weights.items() if key.endswith("embed_tokens.weight"))


def encode(dictionary: Dictionary, bpe, line: str) -> torch.Tensor:
    return dictionary.encode_line(bpe.encode(line), append_eos=False, add_if_not_exist=False).long()


@pytest.mark.parametrize("kind", CLASSES)
def test_text_selects_the_same_rows(kind, make_folder, tmp_path):
    folder, out = make_folder(kind, CLASSES[kind]), tmp_path / "ours"
    convert(folder.path, out)
    dictionary, bpe, ours = Dictionary.load(str(out / "dict.txt")), fairseq_bpe(kind, out), embedding(out)
    theirs = folder.model.get_input_embeddings().weight
    for line in LINES:
        ids = folder.tokenizer(line, add_special_tokens=False).input_ids
        assert torch.equal(ours[encode(dictionary, bpe, line)], theirs[ids]), line
    special = ["bos", "pad", "eos", "unk"] if kind != "bert" else ["cls", "pad", "sep", "unk"]
    ids = [getattr(folder.tokenizer, f"{name}_token_id") for name in special]
    assert torch.equal(ours[:4], theirs[ids])
    mask = dictionary.add_symbol(MASK)  # as fairseq's tasks do
    assert torch.equal(ours[mask], theirs[folder.tokenizer.mask_token_id])
    assert len(dictionary) == len(ours)


def test_languages_of_mbart(make_folder, tmp_path, capsys):
    """In brackets, after the pieces, in the order of mbart.cc25, and the mask in the last row."""
    folder, out = make_folder("mbart", "MBartModel"), tmp_path / "ours"
    convert(folder.path, out)
    dictionary, pieces = Dictionary.load(str(out / "dict.txt")), folder.tokenizer.sp_model.get_piece_size()
    assert dictionary.symbols[pieces + 1 :] == [f"[{language}]" for language in LANGUAGES[:25]]
    ids = folder.tokenizer.convert_tokens_to_ids(list(LANGUAGES[:25]))
    assert [dictionary.index(f"[{language}]") for language in LANGUAGES[:25]] == ids
    assert folder.tokenizer.mask_token_id == len(dictionary) == pieces + 26
    printed = f"row {pieces + 1} is [ar_AR], row {pieces + 25} is [zh_CN], row {pieces + 26} is <mask>"
    assert printed in capsys.readouterr().out
    assert torch.load(out / "model.pt", weights_only=True)["args"].langs == ",".join(LANGUAGES[:25])


@pytest.mark.parametrize("listed", [True, False], ids=["files name the languages", "known by their number"])
def test_languages_of_mbart50(listed, hf, pieces, make_folder, tmp_path, capsys):
    tokenizer = hf.MBart50Tokenizer(str(pieces))
    folder, out = make_folder("mbart", "MBartModel", tokenizer=False, rows=len(tokenizer)), tmp_path / "ours"
    tokenizer.save_pretrained(folder.path)
    if not listed:
        for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            (folder.path / name).unlink(missing_ok=True)
    convert(folder.path, out)
    assert "the language before each sentence" in capsys.readouterr().out
    dictionary = Dictionary.load(str(out / "dict.txt"))
    ids = tokenizer.convert_tokens_to_ids(list(LANGUAGES))
    assert [dictionary.index(f"[{language}]") for language in LANGUAGES] == ids
    assert len(dictionary) == tokenizer.mask_token_id


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_folder_with_tokenizer_json_alone(kind, hf, make_folder, tmp_path):
    """As newer versions of transformers write it."""
    folder = make_folder(kind, CLASSES[kind])
    convert(folder.path, tmp_path / "ours")
    fast = {"bert": hf.BertTokenizerFast, "roberta": hf.RobertaTokenizerFast}[kind].from_pretrained(folder.path)
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (folder.path / name).unlink(missing_ok=True)
    fast.backend_tokenizer.save(str(folder.path / "tokenizer.json"))
    convert(folder.path, tmp_path / "again")
    for path in (tmp_path / "ours").iterdir():
        assert path.name == "model.pt" or path.read_text() == (tmp_path / "again" / path.name).read_text()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_tokenizer_json_of_the_first_versions(kind, hf, make_folder, tmp_path):
    """It does not say of which type its model is."""
    folder = make_folder(kind, CLASSES[kind])
    fast = {"bert": hf.BertTokenizerFast, "roberta": hf.RobertaTokenizerFast}[kind].from_pretrained(folder.path)
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (folder.path / name).unlink(missing_ok=True)
    held = json.loads(fast.backend_tokenizer.to_str())
    del held["model"]["type"]
    for form in (held, held | {"added_tokens": None}):
        (folder.path / "tokenizer.json").write_text(json.dumps(form))
        convert(folder.path, tmp_path / "ours", "--force")
        assert len(Dictionary.load(str(tmp_path / "ours" / "dict.txt"))) >= len(held["model"]["vocab"]) - 1


def test_a_general_tokenizer_says_in_its_json_how_it_cuts(tmp_path):
    wordpieces(tmp_path, tokenizer_class="PreTrainedTokenizerFast", do_lower_case=True)
    for normalizer, words, expected in (
        ({"type": "BertNormalizer", "lowercase": False, "strip_accents": False}, "BertPreTokenizer", False),
        ({"type": "BertNormalizer", "lowercase": True}, "BertPreTokenizer", True),
        (
            {"type": "Sequence", "normalizers": [{"type": "BertNormalizer", "lowercase": True}]},
            "BertPreTokenizer",
            True,
        ),
        ({"type": "BertNormalizer", "lowercase": True}, "WhitespaceSplit", None),
        (None, "BertPreTokenizer", None),
    ):
        held = {"normalizer": normalizer, "pre_tokenizer": {"type": words}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(held))
        vocabulary = read_wordpiece(tmp_path, 5)
        if expected is None:
            assert vocabulary.files == {} and vocabulary.bpe.startswith("a PreTrainedTokenizer of transformers alone")
            continue
        assert ("--bpe-cased" in vocabulary.bpe) is not expected
        assert json.loads(vocabulary.files["tokenizer_config.json"])["do_lower_case"] is expected
        assert normalization(tmp_path)["lowercase"] is expected


def test_a_tokenizer_that_changes_the_text_first_is_none_of_bytes(byte_bpe, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((byte_bpe / name).read_bytes())
    rows = len(json.loads((tmp_path / "vocab.json").read_text()))
    for normalizer in (None, {"type": "Lowercase"}):
        held = {"model": {"type": "BPE"}, "normalizer": normalizer, "pre_tokenizer": {"type": "ByteLevel"}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(held))
        assert (read_byte_bpe(tmp_path, rows) is None) is (normalizer is not None)


def test_a_blank_before_the_text_is_told(byte_bpe, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((byte_bpe / name).read_bytes())
    rows = len(json.loads((tmp_path / "vocab.json").read_text()))
    assert not read_byte_bpe(tmp_path, rows).notes
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    assert "begin with one" in read_byte_bpe(tmp_path, rows).notes[0]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("vocab.txt", b"[PAD]\n\xff\n", "vocab.txt is no text in UTF-8"),
        ("tokenizer.json", b'{"model": {"type": "WordPiece", "vocab": {"a": 0, "b": "1"}}}', "no list of tokens"),
        ("tokenizer.json", b'{"model": {"type": "WordPiece"}}', "no list of tokens"),
        ("tokenizer.json", b'{"model": {"type": "WordPiece", "vocab": ["a"]}}', "no list of tokens"),
    ],
)
def test_damaged_vocabularies(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_wordpiece(tmp_path, 5)


@pytest.mark.parametrize(
    "name, content",
    [
        ("added_tokens.json", {"a": "x"}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": "x"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "a"}}}),
        ("tokenizer.json", {"added_tokens": [{"id": 5}]}),
    ],
)
def test_damaged_added_tokens(name, content, tmp_path):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UsageError, match="the added tokens of its tokenizer are no tokens with their numbers"):
        added_tokens(tmp_path)


def test_the_same_wordpiece_twice(tmp_path):
    """The later one counts, in transformers and, with fairseq's flag, in its dictionary."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "a", "</s>", ""]))
    vocabulary = read_wordpiece(tmp_path, 8)
    (tmp_path / "dict.txt").write_text(vocabulary.dictionary())
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    assert vocabulary.order.tolist() == [2, 0, 3, 1, 4, 5, 6, 7]
    assert len(dictionary) == 8 and dictionary.index("a") == 6 and dictionary.index("</s>") == 7
    assert dictionary.eos() == 2


def test_capitals_in_the_vocabulary_are_kept_where_nothing_says_otherwise(tmp_path):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    for pieces, lowercase in ((["hello"], True), (["hello", "<S>", "<T>"], True), (["Hello", "hello"], False)):
        (tmp_path / "vocab.txt").write_text("\n".join([*special, *pieces, ""]))
        assert normalization(tmp_path)["lowercase"] is lowercase
        assert ("--bpe-cased" in read_wordpiece(tmp_path, 4 + len(pieces)).bpe) is not lowercase
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true, "strip_accents": false}')
    expected = {"lowercase": True, "strip_accents": False, "handle_chinese_chars": True}
    assert normalization(tmp_path) == expected


def wordpieces(folder: Path, **settings) -> Path:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "", ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"do_lower_case": True}, False),
        ({"do_lower_case": True, "strip_accents": False}, True),
        ({"do_lower_case": False, "tokenize_chinese_chars": False}, True),
    ],
)
def test_what_fairseqs_wordpieces_cannot_be_told(settings, told, tmp_path):
    vocabulary = read_wordpiece(wordpieces(tmp_path, **settings), 5)
    assert bool(vocabulary.notes) is told and all("strip_accents" in note for note in vocabulary.notes)


def test_a_tokenizer_that_cuts_words_before_the_pieces(tmp_path):
    vocabulary = read_wordpiece(wordpieces(tmp_path, tokenizer_class="BertJapaneseTokenizer"), 5)
    assert vocabulary.files == {} and vocabulary.bpe.startswith("a BertJapaneseTokenizer of transformers alone")
    for plain in ("BertTokenizerFast", None):
        assert "vocab.txt" in read_wordpiece(wordpieces(tmp_path, tokenizer_class=plain), 5).files


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_added_tokens(kind, make_folder, tmp_path, capsys):
    """One with a row is in the dictionary, one beyond the embedding is left out."""
    size = len(make_folder(kind, CLASSES[kind]).tokenizer)
    folder = make_folder(kind, CLASSES[kind], rows=size + 1)
    added = {"[E1]": size, "[E2]": size + 1}
    (folder.path / "added_tokens.json").write_text(json.dumps(added))
    convert(folder.path, tmp_path / "ours")
    out = capsys.readouterr().out
    assert "note: fairseq cuts added tokens up like other text, though they have rows: 1, first [E1]" in out
    dictionary = Dictionary.load(str(tmp_path / "ours" / "dict.txt"))
    symbol = "[E1]" if kind != "roberta" else str(size)
    assert dictionary.index(symbol) == size and len(dictionary) == size + 1


def test_a_bpe_of_characters_is_not_gpt2s(tmp_path):
    """As BERTweet's: its words end in </w>, which no byte does."""
    model = {"type": "BPE", "vocab": {token: i for i, token in enumerate([*SPECIAL, "a", "b</w>"])}, "merges": []}
    for cut, ours in (({"type": "ByteLevel"}, True), ({"type": "WhitespaceSplit"}, False), (None, False)):
        tokenizer = {"model": model, "pre_tokenizer": cut, "normalizer": None}
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
        assert (read_byte_bpe(tmp_path, 6) is not None) is ours


def test_white_space_is_a_wordpiece(tmp_path):
    """Unicode's line separators end a line for some functions of Python, and neither in vocab.txt nor in dict.txt."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a\u2028", "\u3000", "\x85b", "c"]
    (tmp_path / "vocab.txt").write_text("\n".join([*pieces, ""]))
    vocabulary = read_wordpiece(tmp_path, len(pieces))
    (tmp_path / "dict.txt").write_text(vocabulary.dictionary())
    assert Dictionary.load(str(tmp_path / "dict.txt")).symbols[4:] == pieces[4:]


def test_a_vocabulary_that_does_not_fit(byte_bpe, make_folder, tmp_path):
    from sparse_adapter.errors import UsageError

    vocabulary = read_byte_bpe(byte_bpe, 290)
    rows = len(vocabulary.symbols)
    vocabulary.fit(rows - 1)  # without the mask at the end, as bart.large.cnn
    assert MASK not in vocabulary.symbols and "no row is <mask>: load the model with a task" in vocabulary.notes[0]
    with pytest.raises(UsageError, match="the embedding 200 rows"):
        vocabulary.fit(200)


@pytest.mark.skipif(not DATA.is_dir(), reason="GPT-2's BPE files are not there: SPARSE_ADAPTER_DATA is their parent")
def test_rows_of_the_published_dictionary(tmp_path):
    """RoBERTa's vocab.json is made of fairseq's files, as the published one was; text then has the same rows."""
    published = Dictionary.load(str(DATA / "dict.txt"))
    numbers = json.loads((DATA / "encoder.json").read_text())
    names = {str(number): token for token, number in numbers.items()}
    tokens = [names.get(symbol, symbol) for symbol in published.symbols] + [MASK]
    assert len(tokens) == 50265 and tokens[4] == "." and tokens[-2] == "madeupword0002"
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_bytes((DATA / "vocab.bpe").read_bytes())

    vocabulary = read_byte_bpe(tmp_path, len(tokens))
    vocabulary.fit(len(tokens))
    for name, content in {**vocabulary.files, "dict.txt": vocabulary.dictionary()}.items():
        (tmp_path / name).write_text(content)
    ours = Dictionary.load(str(tmp_path / "dict.txt"))
    assert len(ours) == len(published) == 50264
    for line in [*LINES, "It isn't 3.14159 – naïve façades cost €100.", "    def f(x):\n        return x"]:
        expected = encode(published, fairseq_bpe("roberta", DATA), line)
        bpe = fairseq_bpe("roberta", tmp_path)
        assert torch.equal(encode(ours, bpe, line), expected)
        assert bpe.decode(bpe.encode(line)) == line


def test_the_name_of_the_unknown_piece_goes_with_the_tokenizer(tmp_path):
    pieces = ["[PAD]", "<unk>", "[CLS]", "[SEP]", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join([*pieces, ""]))
    (tmp_path / "special_tokens_map.json").write_text('{"unk_token": "<unk>"}')
    files = read_wordpiece(tmp_path, len(pieces)).files
    assert json.loads(files["tokenizer_config.json"]) == {"unk_token": "<unk>"}
    (tmp_path / "special_tokens_map.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(files["tokenizer_config.json"])
    assert unknown_token(tmp_path) == "<unk>"


def test_rows_without_an_entry_are_told():
    vocabulary = Vocabulary([*SPECIAL, "a", "<mask>"], {}, "")
    vocabulary.fit(6)
    assert not vocabulary.notes
    vocabulary.fit(10)
    assert vocabulary.notes == ["4 of 10 rows have no entry in the vocabulary: is its file complete?"]
