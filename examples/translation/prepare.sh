#!/usr/bin/env bash
# Binarise parallel text for fairseq: read, check, encode with the backbone's BPE or SentencePiece, binarise.
#
#   SRC, TGT       languages (default: en, de)
#   RAW            folder with train, valid and test, each as X.SRC and X.TGT or X.SRC.gz and X.TGT.gz, one sentence
#                  a line (required)
#   DATA           folder to write; replaced only once the new one is complete (default: data-bin/translation/SRC-TGT)
#   BACKBONE_DIR   the backbone's dict.txt, or dict.SRC.txt and dict.TGT.txt, and its BPE: sentencepiece.bpe.model,
#                  sentence.bpe.model, or sentencepiece.SRC.model and .TGT.model; encoder.json and vocab.bpe; or
#                  bpecodes. Without it, dictionary and SentencePiece model are learned from the training text
#   BPE            sentencepiece, gpt2, subword_nmt or fastbpe (default: by the files; subword_nmt for bpecodes)
#   TOKENIZER      moses: the backbone wants text that is tokenised first, as fairseq's WMT models (default: none)
#   LANGS          with mBART: its languages, comma separated, whose symbols follow its dictionary (default: none)
#   VOCAB          pieces to learn (default: 8000)
#   SEPARATE       1: learn one vocabulary for each language (default: 0, one for both)
#   MAX_LENGTH     training pairs with more pieces on one side, or with none, are left out and counted (default: 250)
#   WORKERS        processes (default: 2)
#   VENV           Python environment (default: the active one, or .venv)
#
# DATA then holds fairseq's .bin and .idx files and dictionaries, the files of the BPE, {valid,test}.SRC and .TGT
# (raw, for scoring and fairseq-interactive), and prepare.json: the settings, and how many pairs there are.
#
#   SRC=en TGT=de RAW=text DATA=data-bin/translation/mine bash examples/translation/prepare.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"
data_settings

[[ -n "${RAW:-}" ]] || fail "set RAW to the folder with train, valid and test; --help lists the settings"

if [[ "${SEPARATE:-0}" != 1 ]]; then SEPARATE=; fi
exec python examples/translation/prepare.py --source "$SRC" --target "$TGT" --raw "$RAW" --data "$DATA" \
    --vocabulary "${VOCAB:-8000}" --max-length "${MAX_LENGTH:-250}" --workers "${WORKERS:-2}" \
    ${BACKBONE_DIR:+--backbone-dir "$BACKBONE_DIR"} ${BPE:+--bpe "$BPE"} ${TOKENIZER:+--tokenizer "$TOKENIZER"} \
    ${LANGS:+--langs "$LANGS"} ${SEPARATE:+--separate}
