"""SentencePiece models and dictionaries: a backbone's own, or learned from the training text."""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import DataError  # noqa: E402

JOINT = ("sentencepiece.bpe.model", "sentence.bpe.model")  # ours, and that of fairseq's mBART


def model_path(folder: Path, language: str) -> Path | None:
    """The model for ``language``: its own, or the one of all languages."""
    found = (folder / name for name in (f"sentencepiece.{language}.model", *JOINT))
    return next((path for path in found if path.is_file()), None)


def dictionary_path(folder: Path, language: str) -> Path | None:
    found = (folder / name for name in (f"dict.{language}.txt", "dict.txt"))
    return next((path for path in found if path.is_file()), None)


def load_models(folder: Path, languages: Iterable[str]) -> dict[str, SentencePieceProcessor]:
    """The models of ``folder`` by language.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    models = {}
    for language in languages:
        path = model_path(folder, language)
        if path is None:
            raise DataError(f"{folder} holds no SentencePiece model for {language}: {JOINT[0]} is missing")
        try:
            models[language] = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path} cannot be read ({error}); copy or download it again") from error
    return models


def copy_backbone(source: Path, folder: Path, languages: Iterable[str]) -> None:
    """Copy models and dictionaries, these by language as fairseq wants them."""
    for language in languages:
        model, dictionary = model_path(source, language), dictionary_path(source, language)
        if model is None or dictionary is None:
            absent = "dict.txt" if dictionary is None else JOINT[0]
            raise DataError(f"BACKBONE_DIR {source}: {absent} is missing, or one for {language}")
        shutil.copyfile(model, folder / (JOINT[0] if model.name in JOINT else model.name))
        shutil.copyfile(dictionary, folder / f"dict.{language}.txt")


def learn(texts: dict[str, list[str]], size: int, separate: bool, folder: Path) -> None:
    """Learn models of ``size`` pieces from ``texts`` by language, with dictionaries of the same pieces.

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
