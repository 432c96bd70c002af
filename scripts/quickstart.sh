#!/usr/bin/env bash
# The main job from clone to ROUGE, on data that every installation has: docstrings -> their first line.
# Installs, builds the data, and compares the frozen backbone, a dense adapter and a sparse adapter.
#
#   VENV       the environment, made where it does not exist (default: .venv)
#   PYTHON     the interpreter to make it with, 3.11 or 3.12 (default: python3)
#   CONSTRAINTS  versions to install, as a file for pip (default: constraints.txt)
#   PRUNER, SPARSITY, BOTTLENECK, SEED, EXAMPLES, TEST_EXAMPLES, MAX_EPOCH
#              of the sparse run and of the data (defaults: snip, 0.4, 128, 1, 8000, 200, 1)
#   OUT        where data and runs go, relative to the repository (default: data-bin/quickstart)
#
# About 8 minutes on two CPU cores once it is installed; a second start goes on where the first one stopped. With other
# settings, give another OUT: data and runs that are there are kept as they are.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ $# != 0 ]]; then
    echo "error: $1: this script takes no arguments; its settings are variables, see --help" >&2
    exit 1
fi
source scripts/install.sh ""

# What the shell has exported for other runs: the figures in README.md are of the defaults.
unset CHECKPOINT SUBSET AVERAGE LARGE_SPARSE LR DROPOUT MAX_UPDATE UPDATE_FREQ MAX_POSITIONS PRUNE_BATCHES KEEP_EPOCHS WHOLE
unset EVAL_ROUGE LENPEN MAX_LEN_B NO_REPEAT_NGRAM ROUGE_WORDS BPE BACKBONE_DIR
# Of several GPUs one: so few batches, divided among them, would be hardly any updates.
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES-0}"
OUT="${OUT:-data-bin/quickstart}"
export DATA="$OUT/data" BACKBONE="examples/pretraining/bart_mini/model.pt" ARCH=sparse_adapter_bart_mini
export ADAPTER=houlsby BOTTLENECK="${BOTTLENECK:-128}" SEED="${SEED:-1}" MAX_EPOCH="${MAX_EPOCH:-1}"
# First lines are shorter than XSum's summaries, whose decoding settings are the defaults.
export MAX_TOKENS=3072 MIN_LEN=3 BEAM=4
PRUNER="${PRUNER:-snip}" SPARSITY="${SPARSITY:-0.4}"

step() { printf '\n=== %s\n' "$*"; }

# fairseq's whole log goes to a file and its progress to the terminal.
train() {
    local log="$SAVE_DIR.log" shown='train_inner|valid on|matrices|trained:|of the backbone|error:'
    mkdir -p "$OUT"
    bash examples/summarization/train.sh 2>&1 | tee -a "$log" | grep --line-buffered -E "$shown" |
        sed -uE 's/^.* \| INFO \| [a-z_.]* \| //; s/, (wps|ups|wpb|bsz|gnorm|clip|train_wall|wall)=[0-9.]*//g' || {
        tail -n 20 "$log" >&2
        exit 1
    }
}

step "1/4 data: the docstrings of the installed packages and their first lines"
if [ ! -f "$OUT/raw/train.jsonl" ]; then
    python scripts/docstring_corpus.py "$OUT/raw"
fi
if [ ! -f "$DATA/prepare.json" ]; then
    RAW="$OUT/raw" MAX_SOURCE=96 MAX_TARGET=40 LIMIT_TRAIN="${EXAMPLES:-8000}" LIMIT_VALID=200 \
        LIMIT_TEST="${TEST_EXAMPLES:-200}" bash examples/summarization/prepare.sh
fi

step "2/4 frozen backbone"
SAVE_DIR="$OUT/frozen" CHECKPOINT="$BACKBONE" bash examples/summarization/evaluate.sh

step "3/4 dense adapter"
SAVE_DIR="$OUT/dense" PRUNER=none SPARSITY=0 train
SAVE_DIR="$OUT/dense" bash examples/summarization/evaluate.sh

step "4/4 sparse adapter: $PRUNER at sparsity $SPARSITY"
SAVE_DIR="$OUT/sparse" PRUNER="$PRUNER" SPARSITY="$SPARSITY" train
SAVE_DIR="$OUT/sparse" bash examples/summarization/evaluate.sh

step "result: bart_mini on docstrings"
python scripts/compare_runs.py "$OUT/frozen" "$OUT/dense" "$OUT/sparse" --json "$OUT/results.json"
