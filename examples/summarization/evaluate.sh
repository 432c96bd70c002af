#!/usr/bin/env bash
# Generate summaries with beam search and score them with ROUGE.
#
#   DATA             folder written by prepare.sh (default: data-bin/xsum)
#   SAVE_DIR         folder of the run (default: as in train.sh, from DATA, ARCH, ADAPTER, BOTTLENECK, LORA_RANK,
#                    PREFIX_LENGTH, PRUNER, SPARSITY, LARGE_SPARSE and SEED)
#   CHECKPOINT       what to evaluate: a trained checkpoint, or a plain backbone for the frozen baseline
#                    (default: SAVE_DIR/checkpoint_best.pt)
#   BACKBONE         the backbone of adapter-only checkpoints, where it is not where it was in training
#   SUBSET           test or valid (default: test)
#   BEAM             beam size (default: 6)
#   LENPEN           length penalty, larger is longer (default: 1)
#   MAX_LEN_B        longest summary in tokens (default: 60)
#   MIN_LEN          shortest summary in tokens (default: 10)
#   NO_REPEAT_NGRAM  no n-gram of this length occurs twice (default: 3)
#   ROUGE_WORDS      unicode for summaries that are not in English: all letters count (default: english)
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
find_checkpoint checkpoint_best.pt
[[ -f "$DATA/$SUBSET.summary.txt" ]] || fail "$DATA/$SUBSET.summary.txt is missing; SUBSET can be valid or test"

decoding_options
if [[ -n "${MAX_TOKENS:-}" ]]; then options+=(--max-tokens "$MAX_TOKENS"); fi
generate --truncate-source --batch-size "${BATCH_SIZE:-32}" "${options[@]}" "$@"

python examples/summarization/score.py --data "$DATA" --subset "$SUBSET" --log "$log" --save-dir "$SAVE_DIR" \
    --words "${ROUGE_WORDS:-english}"
