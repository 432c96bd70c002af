#!/usr/bin/env bash
# Translate standard input to standard output, line by line, with a backbone and one adapter. For several adapters on
# one backbone there is sparse-adapter translate.
#
#   SRC, TGT       languages (default: en, de)
#   DATA           folder written by prepare.sh (default: data-bin/translation/SRC-TGT)
#   SAVE_DIR       folder of the run (default: as in train.sh)
#   CHECKPOINT     as in evaluate.sh (default: SAVE_DIR/checkpoint_best.pt)
#   BACKBONE       where the backbone of an adapter file is now (default: where it was in training)
#   BEAM, LENPEN   beam size and length penalty (default: 5, 1)
#   BUFFER         lines that are translated together (default: 1)
#   VENV           Python environment (default: the active one, or .venv)
#
#   echo "A man sleeps." | CHECKPOINT=model.pt bash examples/translation/interactive.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings
find_checkpoint checkpoint_best.pt
model_options
text_flags

PYTHONUNBUFFERED=1 python examples/translation/encode.py --data "$DATA" --language "$SRC" |
    interact "${task_flags[@]}" "${text_flags[@]}" --buffer-size "${BUFFER:-1}" --batch-size "${BUFFER:-1}" \
        --beam "${BEAM:-5}" --lenpen "${LENPEN:-1}" "${options[@]}" "$@"
