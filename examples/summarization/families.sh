#!/usr/bin/env bash
# Train and evaluate every adapter family, dense and pruned, and Large-Sparse Houlsby; then print one table.
# Runs that are there already are skipped, so a relaunch goes on where the last one stopped; one with
# other settings is refused, and wants another OUT.
#
#   DATA         folder written by prepare.sh (default: data-bin/xsum)
#   OUT          folder of the runs, relative to the repository (default: checkpoints/families/DATA's name)
#   FAMILIES     (default: houlsby pfeiffer parallel lora prefix mam)
#   PRUNER, SPARSITY   of the pruned runs (default: snip, 0.4)
#   LARGE        factors k of Large-Sparse (default: 2 3 4)
#   SEEDS        (default: 1)
#
# The other settings of train.sh and evaluate.sh hold here too, but for SUBSET and CHECKPOINT, and arguments are passed
# on to fairseq-train.
set -euo pipefail
unset SUBSET CHECKPOINT
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
export DATA="${DATA:-data-bin/xsum}"
OUT="${OUT:-checkpoints/families/$(basename "$DATA")}"
PRUNER="${PRUNER:-snip}" SPARSITY="${SPARSITY:-0.4}"
runs=() flags=("$@") FLAGS="$*"

one() { # name seed, and settings in the environment
    export SAVE_DIR="$OUT/$1-seed$2" SEED="$2"
    runs+=("$SAVE_DIR")
    if [[ -f "$SAVE_DIR/scores.json" ]]; then return; fi
    echo "=== $SAVE_DIR"
    bash examples/summarization/train.sh ${flags[@]+"${flags[@]}"} > "$SAVE_DIR/train.log" 2>&1 || {
        why "$SAVE_DIR/train.log" >&2
        exit 1
    }
    bash examples/summarization/evaluate.sh
}

each() { # calls $1 with name and seed of every run, and its settings in the environment
    local seed family k
    for seed in ${SEEDS:-1}; do
        for family in ${FAMILIES:-houlsby pfeiffer parallel lora prefix mam}; do
            ADAPTER="$family" PRUNER=none SPARSITY=0 LARGE_SPARSE=1 "$1" "$family-dense" "$seed"
            ADAPTER="$family" PRUNER="$PRUNER" SPARSITY="$SPARSITY" LARGE_SPARSE=1 "$1" "$family-$PRUNER$SPARSITY" "$seed"
        done
        for k in ${LARGE-2 3 4}; do
            ADAPTER=houlsby PRUNER="$PRUNER" SPARSITY= LARGE_SPARSE="$k" "$1" "houlsby-$PRUNER-large$k" "$seed"
        done
    done
}
check() { SEED="$2" same_settings "$OUT/$1-seed$2" BACKBONE $RUN_SETTINGS; }

same_settings "$OUT/frozen" DATA BACKBONE ARCH MAX_POSITIONS $DECODING_SETTINGS
each check
SAVE_DIR="$OUT/frozen"
if [[ ! -f "$SAVE_DIR/scores.json" ]]; then
    SAVE_DIR="$SAVE_DIR" CHECKPOINT="${BACKBONE:-examples/pretraining/bart_mini/model.pt}" \
        bash examples/summarization/evaluate.sh
fi
runs+=("$SAVE_DIR")
each one
python scripts/compare_runs.py "${runs[@]}" --json "$OUT/results.json"
