#!/usr/bin/env bash
# Generate summaries with beam search and score them with ROUGE.
#
#   DATA             folder written by prepare.sh (default: data-bin/xsum)
#   SAVE_DIR         folder of the run (default: as in train.sh, from DATA, ARCH, ADAPTER, BOTTLENECK, PRUNER,
#                    SPARSITY and SEED)
#   CHECKPOINT       what to evaluate: a trained checkpoint, or a plain backbone for the frozen baseline
#                    (default: SAVE_DIR/checkpoint_best.pt)
#   SUBSET           test or valid (default: test)
#   BEAM             beam size (default: 6)
#   LENPEN           length penalty, larger is longer (default: 1)
#   MAX_LEN_B        longest summary in tokens (default: 60)
#   MIN_LEN          shortest summary in tokens (default: 10)
#   NO_REPEAT_NGRAM  no n-gram of this length occurs twice (default: 3)
#   BATCH_SIZE       documents of a batch (default: 32)
#   MAX_TOKENS       and their tokens at most, padding included (default: no limit)
#   MAX_POSITIONS    positions of the backbone (default: by ARCH, 512 for bart_mini and otherwise 1024)
#   VENV             Python environment (default: the active one, or .venv)
#
# Arguments are passed on to fairseq-generate. Writes into SAVE_DIR: generate-SUBSET.log, hypotheses.txt (one
# summary a line, in the order of the test file) and scores.json; of the valid subset, hypotheses-valid.txt and
# scores-valid.json.
#
#   SAVE_DIR=checkpoints/frozen CHECKPOINT=examples/pretraining/bart_mini/model.pt \
#       bash examples/summarization/evaluate.sh                                 # the frozen backbone
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings
SUBSET="${SUBSET:-test}"
CHECKPOINT="${CHECKPOINT:-$SAVE_DIR/checkpoint_best.pt}"

[[ -f "$CHECKPOINT" ]] || fail "CHECKPOINT $CHECKPOINT: there is no such file; train.sh writes it"
[[ -f "$DATA/$SUBSET.summary.txt" ]] || fail "$DATA/$SUBSET.summary.txt is missing; SUBSET can be valid or test"

if [[ -f "$DATA/sentencepiece.bpe.model" ]]; then
    options=(--bpe sentencepiece --sentencepiece-model "$DATA/sentencepiece.bpe.model")
elif [[ -f "$DATA/encoder.json" && -f "$DATA/vocab.bpe" ]]; then
    options=(--bpe gpt2 --gpt2-encoder-json "$DATA/encoder.json" --gpt2-vocab-bpe "$DATA/vocab.bpe")
else
    fail "$DATA holds neither sentencepiece.bpe.model nor encoder.json and vocab.bpe; make it with prepare.sh"
fi
if [[ -n "${MAX_TOKENS:-}" ]]; then options+=(--max-tokens "$MAX_TOKENS"); fi
if [[ "$(python -c 'import torch; print(torch.cuda.is_available())')" == False ]]; then options+=(--cpu); fi

mkdir -p "$SAVE_DIR"
log="$SAVE_DIR/generate-$SUBSET.log"
trap 'rm -f "$log.part"; rmdir "$SAVE_DIR" 2>/dev/null || true' EXIT  # nothing is left of a failure
# Everything goes to the log, and what tells the progress to the terminal.
PYTHONUNBUFFERED=1 fairseq-generate "$DATA" --user-dir user_dir --task sparse_adapter_translation \
    --source-lang source --target-lang target --gen-subset "$SUBSET" --path "$CHECKPOINT" \
    --truncate-source --max-source-positions "$MAX_POSITIONS" --max-target-positions "$MAX_POSITIONS" \
    --beam "${BEAM:-6}" --lenpen "${LENPEN:-1}" --max-len-b "${MAX_LEN_B:-60}" --min-len "${MIN_LEN:-10}" \
    --no-repeat-ngram-size "${NO_REPEAT_NGRAM:-3}" --batch-size "${BATCH_SIZE:-32}" \
    --log-format simple --log-interval 1 "${options[@]}" "$@" 2>&1 |
    tee "$log.part" | awk '/progress_bar/ && match($0, /[0-9]+ \/ [0-9]+.*/) {
        print "generated batch " substr($0, RSTART); fflush()
    }' || {
    # The plugin's messages are one line; anything else comes with its traceback.
    if [[ "$(tail -n 1 "$log.part")" == error:* ]]; then tail -n 1 "$log.part"; else tail -n 20 "$log.part"; fi >&2
    exit 1
}
mv "$log.part" "$log"

python examples/summarization/score.py --data "$DATA" --subset "$SUBSET" --log "$log" --save-dir "$SAVE_DIR"
