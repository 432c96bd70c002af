# Sourced by prepare.sh, train.sh and evaluate.sh, which document the settings. Prints the header of the
# calling script for --help, makes the paths given relative to the caller's folder absolute, goes to the
# root of the repository, and puts the environment in $VENV (default: the active one, or .venv) on the PATH.

if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
    exit 0
fi

fail() {
    echo "error: $*" >&2
    exit 1
}

for name in RAW DATA BACKBONE_DIR BACKBONE SAVE_DIR CHECKPOINT; do
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
# On a CPU, glibc otherwise returns the memory of large tensors after every step and faults it in again:
# keeping it makes a step of bart_mini 1.3 times faster (0.94 and 1.22 updates a second, measured).
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-268435456}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1073741824}"
# fairseq makes hydra print a page of these before every command.
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore::UserWarning}"

# What train.sh and evaluate.sh agree on: a run is found again by its settings.
run_settings() {
    DATA="${DATA:-data-bin/xsum}"
    ARCH="${ARCH:-sparse_adapter_bart_mini}"
    ADAPTER="${ADAPTER:-houlsby}"
    PRUNER="${PRUNER-snip}"
    SPARSITY="${SPARSITY:-0.4}"
    SEED="${SEED:-1}"
    case "$ARCH" in
        *_mini) BOTTLENECK="${BOTTLENECK:-64}" MAX_POSITIONS="${MAX_POSITIONS:-512}" ;;
        *) BOTTLENECK="${BOTTLENECK:-512}" MAX_POSITIONS="${MAX_POSITIONS:-1024}" ;;
    esac
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
    SAVE_DIR="${SAVE_DIR:-checkpoints/summarization/$(basename "$DATA")/${ARCH#sparse_adapter_}-$run-seed$SEED}"

    if [[ ! -f "$DATA/dict.source.txt" ]]; then
        fail "DATA $DATA holds no binarised data; make it with RAW=... DATA=... bash examples/summarization/prepare.sh"
    fi
}
