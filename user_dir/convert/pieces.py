"""The SentencePieces of XLM-R and mBART (``sentencepiece.bpe.model``) as fairseq's dictionary.

SentencePiece's own ids begin with <unk> <s> </s> and fairseq's with <s> <pad> </s> <unk>, so every piece after these
has one id more in fairseq, and in transformers, which took the rows over.
"""

import re
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from ..errors import UsageError
from .tokenizer_files import added_tokens
from .vocabulary import MASK, SPECIAL, Vocabulary, append_added

PIECES = "sentencepiece.bpe.model"
OWN = ("<unk>", "<s>", "</s>")
BPE = f"--bpe sentencepiece --sentencepiece-model {{out}}/{PIECES}"

# The languages in the order of their rows: the 25 of mbart.cc25 (fairseq, examples/mbart/README.md) and those that
# mBART-50 has after them (fairseq, examples/multilingual/ML50_langs.txt).
LANGUAGES = (
    *("ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN", "it_IT", "ja_XX"),
    *("kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN"),
    *("zh_CN", "af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH", "mk_MK", "ml_IN"),
    *("mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN", "te_IN", "th_TH", "tl_XX", "uk_UA"),
    *("ur_PK", "xh_ZA", "gl_ES", "sl_SI"),
)
LANGUAGE = re.compile(r"[a-z]{2,3}_[A-Z]{2}")


def read_xlmr_pieces(folder: Path, rows: int) -> Vocabulary | None:
    symbols = _symbols(folder)
    if symbols is None:
        return None
    remark = f"row {len(symbols):,} is {MASK}"
    symbols.append(MASK)
    notes = append_added(symbols, folder, rows)
    return Vocabulary(symbols, {PIECES: folder / PIECES}, BPE, remark, notes=notes)


def read_mbart_pieces(folder: Path, rows: int) -> Vocabulary | None:
    """The languages have the rows after the pieces, in brackets in fairseq, and <mask> the last one."""
    symbols = _symbols(folder)
    if symbols is None:
        return None
    first = len(symbols)
    count = rows - first - 1
    known = [*LANGUAGES[:count], MASK] if count in (25, len(LANGUAGES)) else []
    names = dict(enumerate(known, start=first)) | added_tokens(folder)
    tokens = [names.get(i, f"unused{i}") for i in range(first, rows)]
    symbols += [f"[{token}]" if LANGUAGE.fullmatch(token) else token for token in tokens]
    languages = [token for token in tokens if LANGUAGE.fullmatch(token)]
    remarks = [
        f"row {symbols.index(f'[{language}]'):,} is [{language}]" for language in (languages[:1] + languages[-1:])
    ]
    remarks += [f"row {symbols.index(MASK):,} is {MASK}"] if MASK in symbols else []
    if len(languages) == len(LANGUAGES):
        remarks.append(
            "these are mBART-50's languages: it was trained with the language before each sentence, and the plugin's "
            "task, made for mBART-25, puts it after, so that translations are bad until much has been trained"
        )
    args = {"langs": ",".join(languages)} if languages else {}
    return Vocabulary(symbols, {PIECES: folder / PIECES}, BPE, ", ".join(remarks), args=args)


def _symbols(folder: Path) -> list[str] | None:
    if not (folder / PIECES).is_file():
        return None
    try:
        processor = SentencePieceProcessor(model_file=str(folder / PIECES))
    except (RuntimeError, OSError) as error:
        raise UsageError(f"{folder / PIECES} is not a SentencePiece model ({str(error).splitlines()[0]})") from error
    pieces = [processor.IdToPiece(i) for i in range(processor.GetPieceSize())]
    if tuple(pieces[: len(OWN)]) != OWN:
        raise UsageError(
            f"{folder / PIECES} begins with {' '.join(pieces[:3])}, and XLM-R and mBART with {' '.join(OWN)}"
        )
    return [*SPECIAL, *pieces[len(OWN) :]]
