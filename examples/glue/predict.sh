#!/usr/bin/env bash
# Predict examples without labels: a test set of GLUE, or sentences of your own.
#
#   INPUT          TSV file, gzipped if it is named .gz, in the layout of GLUE's test.tsv: a header that names the
#                  columns of the sentences as in the task's own files (CoLA's: sentence); others are ignored (required)
#   OUTPUT         TSV file to write or replace: index, from 0, and prediction, the layout of submissions to GLUE
#                  (default: SAVE_DIR/predictions-INPUT's name)
#   TASK           as in train.sh (default: DATA's, or rte)
#   BACKBONE_DIR   as in train.sh, for its dict.txt and tokenizer (default: examples/glue/minilm)
#   BACKBONE       where the backbone of an adapter file is now (default: where it was in training)
#   DATA           folder written by prepare.sh, of the data that the model was trained on
#                  (default: data-bin/glue/TASK-BACKBONE_DIR's name)
#   SAVE_DIR       folder of the run (default: as in train.sh)
#   CHECKPOINT     as in evaluate.sh (default: SAVE_DIR/checkpoint_last.pt)
#   BATCH_SIZE     examples of a batch (default: 64)
#   VENV           Python environment (default: the active one, or .venv)
#
# Sentences are tokenised and cut as in training.
#
#   TASK=rte INPUT=/path/to/glue/RTE/test.tsv OUTPUT=RTE.tsv bash examples/glue/predict.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"
run_settings
find_checkpoint checkpoint_last.pt
[[ -n "${INPUT:-}" ]] || fail "set INPUT to a TSV file with a header; --help lists the settings"

name="$(basename "${INPUT%.gz}")"
exec python examples/glue/predict.py --data "$DATA" --input "$INPUT" --output "${OUTPUT:-$SAVE_DIR/predictions-$name}" \
    --checkpoint "$CHECKPOINT" --backbone-dir "$BACKBONE_DIR" --batch-size "${BATCH_SIZE:-64}" \
    ${BACKBONE:+--backbone "$BACKBONE"}
