# Sourced by prepare.sh, train.sh, evaluate.sh and grid.sh, which document the settings. Prints the header of the
# calling script for --help, makes the paths given relative to the caller's folder absolute, goes to the root of
# the repository, and puts the environment in $VENV (default: the active one, or .venv) on the PATH.

if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
    exit 0
fi

fail() {
    echo "error: $*" >&2
    exit 1
}

for name in GLUE_DIR DATA BACKBONE_DIR BACKBONE SAVE_DIR CHECKPOINT RUNS; do
    case "${!name:-/}" in
        /*) ;;
        *) printf -v "$name" '%s/%s' "$PWD" "${!name}" ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VENV="${VENV:-${VIRTUAL_ENV:-.venv}}"
if [[ -x "$VENV/bin/python" ]]; then
    export PATH="$(cd "$VENV" && pwd)/bin:$PATH"
fi
# Threads that wait for work leave the cores to those that have some.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
# On a CPU, glibc otherwise returns the memory of large tensors after every step and faults it in again.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-268435456}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1073741824}"
# fairseq makes hydra print a page of these before every command.
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore::UserWarning}"

# What all scripts agree on: data are found again by their task and backbone.
data_settings() {
    TASK="${TASK:-rte}"
    BACKBONE_DIR="${BACKBONE_DIR:-examples/glue/minilm}"
    DATA="${DATA:-data-bin/glue/$TASK-$(basename "$BACKBONE_DIR")}"
}

# What train.sh and evaluate.sh agree on: a run is found again by its settings.
run_settings() {
    data_settings
    ADAPTER="${ADAPTER:-houlsby}"
    PRUNER="${PRUNER-snip}"
    SPARSITY="${SPARSITY:-0.4}"
    SEED="${SEED:-1}"
    BOTTLENECK="${BOTTLENECK:-64}"
    LORA_RANK="${LORA_RANK:-8}" PREFIX_LENGTH="${PREFIX_LENGTH:-30}" LARGE_SPARSE="${LARGE_SPARSE:-1}"
    if [[ "$ADAPTER" == none || -z "$PRUNER" || "$PRUNER" == none ||
        ("$SPARSITY" =~ ^0*\.?0*$ && "$LARGE_SPARSE" == 1) ]]; then
        PRUNER=none
        SPARSITY=0
    fi

    local size="$BOTTLENECK"
    case "$ADAPTER" in
        lora) size="$LORA_RANK" ;;
        prefix) size="$PREFIX_LENGTH" ;;
        mam) size="$BOTTLENECK+$PREFIX_LENGTH" ;;
    esac
    local run="$ADAPTER$size-$PRUNER$SPARSITY"
    if [[ "$ADAPTER" == none ]]; then
        run=full
    elif [[ "$PRUNER" == none ]]; then
        run="$ADAPTER$size-dense"
    elif [[ "$LARGE_SPARSE" != 1 ]]; then
        run="$ADAPTER$size-${PRUNER}x$LARGE_SPARSE"
    fi
    SAVE_DIR="${SAVE_DIR:-checkpoints/glue/$(basename "$DATA")/$run-seed$SEED}"

    if [[ ! -f "$DATA/prepare.json" ]]; then
        fail "DATA $DATA holds no prepared data; make it with TASK=$TASK GLUE_DIR=... bash examples/glue/prepare.sh"
    fi
}
