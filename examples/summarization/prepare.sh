#!/usr/bin/env bash
# Binarise summarisation data for fairseq: read, check, encode with the backbone's BPE, cut, binarise.
#
#   RAW            folder with train, valid and test, each as X.jsonl or X.jsonl.gz with the fields document
#                  and summary, or as X.source and X.target, one text a line (required)
#   DATA           folder to write; replaced only once the new one is complete
#                  (default: data-bin/ and the name of RAW)
#   BPE            sentencepiece or gpt2 (default: sentencepiece)
#   BACKBONE_DIR   the backbone's dict.txt, with its sentencepiece.bpe.model, or its encoder.json and
#                  vocab.bpe (default: examples/pretraining/bart_mini)
#   MAX_SOURCE     documents are cut at this many tokens, the end symbol included (default: 512)
#   MAX_TARGET     and summaries at this many (default: 128)
#   WORKERS        processes (default: 2)
#   LIMIT_TRAIN, LIMIT_VALID, LIMIT_TEST   keep the first N examples of a split (default: all)
#   VENV           Python environment (default: the active one, or .venv)
#
# DATA then holds fairseq's .bin and .idx files and dictionaries, the BPE model, {valid,test}.document.txt
# and .summary.txt (uncut, one text a line, for scoring and fairseq-interactive), and prepare.json: the
# settings, and how many examples there are and were cut. Documents and summaries are one line each: runs
# of white space become one space.
#
#   RAW=/path/to/xsum DATA=data-bin/xsum bash examples/summarization/prepare.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"

[[ -n "${RAW:-}" ]] || fail "set RAW to the folder with train, valid and test; --help lists the settings"

exec python examples/summarization/prepare.py \
    --raw "$RAW" \
    --data "${DATA:-data-bin/$(basename "$RAW")}" \
    --bpe "${BPE:-sentencepiece}" \
    --backbone-dir "${BACKBONE_DIR:-examples/pretraining/bart_mini}" \
    --max-source "${MAX_SOURCE:-512}" \
    --max-target "${MAX_TARGET:-128}" \
    --workers "${WORKERS:-2}" \
    ${LIMIT_TRAIN:+--limit-train "$LIMIT_TRAIN"} \
    ${LIMIT_VALID:+--limit-valid "$LIMIT_VALID"} \
    ${LIMIT_TEST:+--limit-test "$LIMIT_TEST"}
