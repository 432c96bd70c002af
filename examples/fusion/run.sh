#!/usr/bin/env bash
# AdapterFusion (Pfeiffer et al. 2021) in two stages: a Pfeiffer adapter for every data set, then attention over
# all of them, trained on one. Finished parts are skipped, so a relaunch goes on where the last one stopped; one
# with other settings is refused, and wants another OUT.
#
#   DATASETS   folders written by examples/summarization/prepare.sh, in one dictionary
#              (default: data-bin/xsum data-bin/quickstart/data; these
#              and OUT are relative to the repository)
#   TARGET     the data set to fuse for (default: the first)
#   OUT        folder of the runs (default: checkpoints/fusion)
#   PRUNER, SPARSITY   of the adapters and of the fusion's matrices (default: snip, 0.4); LARGE_SPARSE is the adapters'
#   LR, FUSION_LR, MAX_EPOCH   learning rates of the two stages (default: train.sh's, 1e-3) and epochs (default: 3)
#
# Other settings are those of examples/summarization/train.sh and evaluate.sh, but for SUBSET and CHECKPOINT; arguments
# are passed on to fairseq-train.
set -euo pipefail
unset SUBSET CHECKPOINT
source "$(dirname "${BASH_SOURCE[0]}")/../summarization/settings.sh"
read -ra DATASETS <<< "${DATASETS:-data-bin/xsum data-bin/quickstart/data}"
TARGET="${TARGET:-${DATASETS[0]}}"
OUT="${OUT:-checkpoints/fusion}"
flags=("$@")
export PRUNER="${PRUNER-snip}" SPARSITY="${SPARSITY:-0.4}" MAX_EPOCH="${MAX_EPOCH:-3}"

train() { # flags; the rest is in the environment
    FLAGS="${flags[*]} $*" same_settings "$SAVE_DIR" TARGET BACKBONE FUSED $RUN_SETTINGS
    if [[ -f "$SAVE_DIR/done" ]]; then return; fi
    echo "=== training $SAVE_DIR"
    bash examples/summarization/train.sh ${flags[@]+"${flags[@]}"} "$@" > "$SAVE_DIR/train.log" 2>&1 || {
        why "$SAVE_DIR/train.log" >&2
        exit 1
    }
    touch "$SAVE_DIR/done"
}

evaluate() {
    if [[ ! -f "$SAVE_DIR/scores.json" ]]; then DATA="$TARGET" bash examples/summarization/evaluate.sh; fi
}

files=() runs=()
for data in "${DATASETS[@]}"; do
    export SAVE_DIR="$OUT/pfeiffer-$(tr / - <<< "${data#data-bin/}")"
    DATA="$data" ADAPTER=pfeiffer train
    files+=("$SAVE_DIR/checkpoint_best.pt")
    evaluate
    runs+=("$SAVE_DIR")
done

export SAVE_DIR="$OUT/fusion"
FUSED="adapters with cksum $(for file in "${files[@]}"; do fingerprint "$file"; done | cksum)"
DATA="$TARGET" ADAPTER=adapter_fusion LARGE_SPARSE= LR="${FUSION_LR:-1e-3}" train --fusion-adapters "$(IFS=,; echo "${files[*]}")"
evaluate
python scripts/compare_runs.py "${runs[@]}" "$OUT/fusion" --json "$OUT/results.json"
