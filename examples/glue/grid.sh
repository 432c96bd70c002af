#!/usr/bin/env bash
# Full fine-tuning, dense and sparse adapters on several tasks of GLUE and with several seeds, and a table of their
# means and standard deviations. A relaunch goes on where it was stopped: runs that have scores are not repeated.
#
#   TASKS          (default: cola mrpc sts-b rte)
#   SYSTEMS        of full, dense and sparse (default: full dense sparse)
#   SEEDS          (default: 1 2 3)
#   GLUE_DIR, BACKBONE_DIR   as in prepare.sh
#   RUNS           folder of the runs and of table.md (default: checkpoints/glue/grid-BACKBONE_DIR's name)
#   VENV           Python environment (default: the active one, or .venv)
#
# Every setting of train.sh holds for all runs; LR for dense and sparse, LR_FULL for full. Arguments are passed on
# to fairseq-train. Each run's output is in train.log beside its scores.
#
#   GLUE_DIR=../shared/data/glue bash examples/glue/grid.sh
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/settings.sh"
data_settings
read -ra tasks <<<"${TASKS:-cola mrpc sts-b rte}"
read -ra systems <<<"${SYSTEMS:-full dense sparse}"
read -ra seeds <<<"${SEEDS:-1 2 3}"
RUNS="${RUNS:-checkpoints/glue/grid-$(basename "$BACKBONE_DIR")}"
for system in "${systems[@]}"; do
    [[ "$system" =~ ^(full|dense|sparse)$ ]] || fail "SYSTEMS has $system; there are full, dense and sparse"
done
if [[ -n "${LR:-}" ]]; then adapter_lr=("LR=$LR"); else adapter_lr=(); fi
if [[ -n "${LR_FULL:-}" ]]; then full_lr=("LR=$LR_FULL"); else full_lr=(); fi
unset LR

folders=()
for task in "${tasks[@]}"; do
    export TASK="$task" DATA="data-bin/glue/$task-$(basename "$BACKBONE_DIR")"
    if [[ ! -f "$DATA/prepare.json" ]]; then bash "$here/prepare.sh"; fi
    for system in "${systems[@]}"; do
        case "$system" in
            full) settings=(ADAPTER=none ${full_lr[@]+"${full_lr[@]}"}) ;;
            dense) settings=(PRUNER=none ${adapter_lr[@]+"${adapter_lr[@]}"}) ;;
            sparse) settings=(${adapter_lr[@]+"${adapter_lr[@]}"}) ;;
        esac
        for seed in "${seeds[@]}"; do
            run="$RUNS/$task/$system-seed$seed"
            folders+=("$run")
            if [[ -f "$run/scores.json" ]]; then continue; fi
            mkdir -p "$run"
            echo "$run"
            # As whole paths: the scripts take them relative to the caller's folder.
            settings+=("SEED=$seed" "SAVE_DIR=$run" "BACKBONE_DIR=$BACKBONE_DIR")
            start="$SECONDS"
            env "${settings[@]}" bash "$here/train.sh" "$@" >>"$run/train.log" 2>&1 || {
                tail -n 5 "$run/train.log" >&2
                exit 1
            }
            env "${settings[@]}" bash "$here/evaluate.sh" 2>>"$run/train.log"
            echo "took $((SECONDS - start)) s"
        done
    done
done
python "$here/table.py" "${folders[@]}" | tee "$RUNS/table.md"
