#!/usr/bin/env bash
# Answer questions of your own, which have no answers yet.
#
#   INPUT          JSON file in SQuAD's layout, plain or gzipped, in which questions may come without answers (required)
#   OUTPUT         JSON file to write or replace: the best answer to each id; those after it, with their scores and
#                  places in the context, go to a file beside it that begins with nbest_
#                  (default: SAVE_DIR/predictions-INPUT's name)
#   BACKBONE_DIR   as in train.sh, for its dict.txt and tokenizer (default: examples/glue/minilm)
#   BACKBONE       where the backbone of an adapter file is now (default: where it was in training)
#   DATA           folder written by prepare.sh, of the data that the model was trained on
#                  (default: data-bin/squad/BACKBONE_DIR's name)
#   SAVE_DIR       folder of the run (default: as in train.sh)
#   CHECKPOINT     as in evaluate.sh (default: SAVE_DIR/checkpoint_last.pt)
#   N_BEST, MAX_ANSWER, MAX_TOKENS   as in evaluate.sh (default: 20, 30, 8192)
#   VENV           Python environment (default: the active one, or .venv)
#
# Questions and contexts are cut into windows as in training.
#
#   INPUT=questions.json OUTPUT=answers.json bash examples/squad/predict.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"
run_settings
find_checkpoint checkpoint_last.pt
[[ -n "${INPUT:-}" ]] || fail "set INPUT to a JSON file in SQuAD's layout; --help lists the settings"

name="$(basename "${INPUT%.gz}")"
exec python examples/squad/predict.py --data "$DATA" --input "$INPUT" --output "${OUTPUT:-$SAVE_DIR/predictions-$name}" \
    --checkpoint "$CHECKPOINT" --backbone-dir "$BACKBONE_DIR" --n-best "${N_BEST:-20}" \
    --max-answer-length "${MAX_ANSWER:-30}" --max-tokens "${MAX_TOKENS:-8192}" ${BACKBONE:+--backbone "$BACKBONE"}
