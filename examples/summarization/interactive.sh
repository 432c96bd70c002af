#!/usr/bin/env bash
# Summarise standard input to standard output: a document a line, a summary a line.
#
#   DATA             folder written by prepare.sh, of the data that the model was trained on (default: data-bin/xsum)
#   SAVE_DIR         folder of the run (default: as in train.sh)
#   CHECKPOINT       as in evaluate.sh (default: SAVE_DIR/checkpoint_best.pt)
#   BACKBONE         the backbone of adapter-only checkpoints, where it is not where it was in training
#   BEAM, LENPEN, MAX_LEN_B, MIN_LEN, NO_REPEAT_NGRAM   as in evaluate.sh (default: 6, 1, 60, 10, 3)
#   MAX_POSITIONS    positions of the backbone (default: by ARCH, 512 for bart_mini and otherwise 1024)
#   BUFFER           documents that are summarised together (default: 1)
#   VENV             Python environment (default: the active one, or .venv)
#
# Documents are cut as in training. Arguments are passed on to fairseq-interactive.
#
#   SAVE_DIR=data-bin/quickstart/sparse DATA=data-bin/quickstart/data MIN_LEN=3 BEAM=4 \
#       bash examples/summarization/interactive.sh < documents.txt > summaries.txt
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings
find_checkpoint checkpoint_best.pt
decoding_options

PYTHONUNBUFFERED=1 python examples/summarization/cut.py --data "$DATA" |
    interact --buffer-size "${BUFFER:-1}" --batch-size "${BUFFER:-1}" "${options[@]}" "$@"
