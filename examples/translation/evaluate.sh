#!/usr/bin/env bash
# Translate with beam search, and score with sacrebleu's BLEU and chrF.
#
#   SRC, TGT       languages (default: en, de)
#   DATA           folder written by prepare.sh (default: data-bin/translation/SRC-TGT)
#   SAVE_DIR       folder of the run (default: as in train.sh)
#   CHECKPOINT     what to evaluate: a trained checkpoint, one of adapters alone, or a plain backbone
#                  (default: SAVE_DIR/checkpoint_best.pt)
#   AVERAGE        average the last N epochs' checkpoints, kept by KEEP_EPOCHS, into SAVE_DIR/average.pt, and evaluate
#                  that (default: 0)
#   BACKBONE       where the backbone of an adapter file is now (default: where it was in training)
#   SUBSET         test or valid (default: test)
#   BEAM, LENPEN   beam size and length penalty (default: 5, 1)
#   MAX_TOKENS     source tokens of a batch, padding included (default: 4096)
#   VENV           Python environment (default: the active one, or .venv)
#
# Arguments are passed on to fairseq-generate. Writes into SAVE_DIR: generate-SUBSET.log, hypotheses.txt (detokenised,
# one sentence a line, in the order of the test file) and scores.json, with sacrebleu's signatures; of the valid
# subset, hypotheses-valid.txt and scores-valid.json.
#
#   SAVE_DIR=checkpoints/frozen CHECKPOINT=wmt/model.pt bash examples/translation/evaluate.sh     # the backbone alone
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings
SUBSET="${SUBSET:-test}"
[[ -f "$DATA/$SUBSET.$TGT" ]] || fail "$DATA/$SUBSET.$TGT is missing; SUBSET can be valid or test"

if ((${AVERAGE:-0} > 0)); then
    mapfile -t epochs < <(ls "$SAVE_DIR" | grep -E '^checkpoint[0-9]+\.pt$' | sort -V | tail -n "$AVERAGE")
    ((${#epochs[@]} == AVERAGE)) || fail "$SAVE_DIR has ${#epochs[@]} epoch checkpoints; train with KEEP_EPOCHS=$AVERAGE"
    sparse-adapter average "${epochs[@]/#/"$SAVE_DIR"/}" "$SAVE_DIR/average.pt" --force
    CHECKPOINT="$SAVE_DIR/average.pt"
fi
find_checkpoint checkpoint_best.pt
model_options
text_flags

generate "${task_flags[@]}" "${text_flags[@]}" --required-batch-size-multiple 1 \
    --beam "${BEAM:-5}" --lenpen "${LENPEN:-1}" --max-tokens "${MAX_TOKENS:-4096}" "${options[@]}" "$@"

python examples/translation/score.py --references "$DATA/$SUBSET.$TGT" --language "$TGT" --log "$log" \
    --save-dir "$SAVE_DIR" --subset "$SUBSET"
