"""Text to the symbols of a dictionary and back: with a backbone's own BPE, or with SentencePiece learned from the text.

A SentencePiece model can be one for all languages or one for each. The other kinds are fairseq's, by its own names.
"""

import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import BPE_FILES, DataError, recorded  # noqa: E402

SENTENCEPIECE = "sentencepiece"
JOINT = ("sentencepiece.bpe.model", "sentence.bpe.model")  # ours, and that of fairseq's mBART
# The files of fairseq's other BPEs, by the options that name them.
FILES = {
    "gpt2": BPE_FILES["gpt2"],
    "subword_nmt": {"bpe_codes": "bpecodes"},
    "fastbpe": {"bpe_codes": "bpecodes"},
}
KINDS = (SENTENCEPIECE, *FILES)

Encoder = Callable[[str], list[str]]


def model_path(folder: Path, language: str) -> Path | None:
    """The SentencePiece model for ``language``: its own, or the one of all languages."""
    found = (folder / name for name in (f"sentencepiece.{language}.model", *JOINT))
    return next((path for path in found if path.is_file()), None)


def dictionary_path(folder: Path, language: str) -> Path | None:
    found = (folder / name for name in (f"dict.{language}.txt", "dict.txt"))
    return next((path for path in found if path.is_file()), None)


def find_kind(folder: Path, languages: Iterable[str]) -> str:
    """The kind of BPE whose files ``folder`` holds; of two that look alike, the first of FILES."""
    if all(model_path(folder, language) for language in languages):
        return SENTENCEPIECE
    for kind, files in FILES.items():
        if all((folder / name).is_file() for name in files.values()):
            return kind
    raise DataError(
        f"{folder} holds no BPE for {' and '.join(languages)}: neither {JOINT[0]}, nor encoder.json and vocab.bpe, nor "
        "bpecodes"
    )


def load_encoders(folder: Path, languages: Iterable[str], kind: str, tokenizer: str | None) -> dict[str, Encoder]:
    """What encodes a line, by language.

    Raises:
        DataError: a file is missing or cannot be read, or a package is not installed.
    """
    return {language: _load_encoder(folder, language, kind, tokenizer) for language in languages}


def _load_encoder(folder: Path, language: str, kind: str, tokenizer: str | None) -> Encoder:
    if kind == SENTENCEPIECE:
        path = model_path(folder, language)
        if path is None:
            raise DataError(f"{folder} holds no SentencePiece model for {language}: {JOINT[0]} is missing")
        try:
            model = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path} cannot be read ({error}); copy or download it again") from error
        return lambda line: model.encode(line, out_type=str)

    from sparse_adapter.errors import UsageError
    from sparse_adapter.text import Codec

    options = {option: str(folder / name) for option, name in FILES[kind].items()}
    if tokenizer == "moses":
        options |= {"source_lang": language, "target_lang": language}
    try:
        codec = Codec.build(tokenizer, kind, **options)
    except UsageError as error:
        raise DataError(str(error)) from error
    return lambda line: codec.encode(line).split()


def text_flags(data: Path) -> list[str]:
    """The flags by which fairseq-generate turns symbols into text, of data written by prepare.sh."""
    settings = recorded(data)["settings"]
    kind, tokenizer = settings.get("bpe", SENTENCEPIECE), settings.get("tokenizer")
    if kind == SENTENCEPIECE:  # fairseq's --bpe knows one model for both languages
        return ["--post-process", SENTENCEPIECE]
    flags = ["--bpe", kind]
    for option, name in FILES[kind].items():
        flags += [f"--{option.replace('_', '-')}", str(data / name)]
    return flags + (["--tokenizer", tokenizer] if tokenizer else [])


def copy_backbone(source: Path, folder: Path, languages: Iterable[str], kind: str) -> None:
    """Copy the BPE's files and the dictionaries, these by language as fairseq wants them."""
    for language in languages:
        dictionary = dictionary_path(source, language)
        if dictionary is None:
            raise DataError(f"BACKBONE_DIR {source}: dict.txt is missing, or one for {language}")
        shutil.copyfile(dictionary, folder / f"dict.{language}.txt")
        if kind == SENTENCEPIECE:
            model = model_path(source, language)
            if model is None:
                raise DataError(f"BACKBONE_DIR {source}: {JOINT[0]} is missing, or one for {language}")
            shutil.copyfile(model, folder / (JOINT[0] if model.name in JOINT else model.name))
    for name in FILES.get(kind, {}).values():
        if not (source / name).is_file():
            raise DataError(f"BACKBONE_DIR {source}: {name} is missing, which BPE={kind} needs")
        shutil.copyfile(source / name, folder / name)


def bpe_files(folder: Path, kind: str) -> list[Path]:
    """What decoding needs of a folder that ``copy_backbone`` or ``learn`` has filled."""
    return list(folder.glob("*.model")) if kind == SENTENCEPIECE else [folder / name for name in FILES[kind].values()]


def learn(texts: dict[str, list[str]], size: int, separate: bool, folder: Path) -> None:
    """Learn SentencePiece models of ``size`` pieces from ``texts`` by language, with dictionaries of the same pieces.

    Raises:
        DataError: the text is too small for so many pieces.
    """
    names = (
        {f"sentencepiece.{language}.model": [language] for language in texts} if separate else {JOINT[0]: list(texts)}
    )
    for name, languages in names.items():
        sentences = (line for language in languages for line in texts[language])
        options = {"vocab_size": size, "character_coverage": 0.9999, "minloglevel": 2}
        with (folder / name).open("wb") as file:
            try:
                SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=file, **options)
            except RuntimeError as error:
                raise DataError(f"no {size} pieces can be learned: {error}; set a smaller VOCAB") from error
        model = SentencePieceProcessor(model_file=str(folder / name))
        learned = range(model.get_piece_size())
        pieces = [model.id_to_piece(i) for i in learned if not (model.is_control(i) or model.is_unknown(i))]
        for language in languages:
            text = "".join(f"{piece} 1\n" for piece in pieces)
            (folder / f"dict.{language}.txt").write_text(text, encoding="utf-8")
