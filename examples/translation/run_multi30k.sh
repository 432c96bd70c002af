#!/usr/bin/env bash
# The worked example: one backbone for image captions and general text, and adapters for software documentation.
# Prepares both domains, pretrains the backbone, trains each system on the new domain, translates the test sets of both
# domains with it, and prints a table. A relaunch goes on where it was stopped: what has scores is not repeated,
# and asked for with other settings, refused.
#
#   SPARSE_ADAPTER_DATA   folder with multi30k and debian_descriptions (required)
#   WORK           folder of everything that is written (default: data-bin/translation)
#   SYSTEMS        of full, houlsby, houlsby-sparse0.4, houlsby-large-sparse4, lora, lora-sparse0.8 and the like: a
#                  family, and with it a sparsity or k of Large-Sparse (default: lora-sparse0.4)
#   PRETRAIN_EPOCHS, EPOCHS   of the backbone and of each system (default: 10, 4)
#   BOTTLENECK, LORA_RANK     (default: 256, 64)
#   LR             peak learning rate of the adapters (default: houlsby 4e-3, lora 3e-3); the backbone and full have
#                  those of the scripts
#   SEED           (default: 1)
#   MAX_TOKENS, VOCAB, MAX_LENGTH, DIM, LAYERS   as in prepare.sh, pretrain.sh and train.sh (default: 2048, 4000, 100,
#                  256, 3)
#   QUICK          1: on 3000 pairs, with VOCAB 2000, DIM 128, LAYERS 2 and by default 2 and 1 epochs, which shows that
#                  everything works and nothing else (default: 0)
#   VENV           Python environment (default: the active one, or .venv)
#
# Arguments are passed on to fairseq-train.
#
#   SPARSE_ADAPTER_DATA=/path/to/data bash examples/translation/run_multi30k.sh --matmul-precision medium \
#       --attention-kernel math
set -euo pipefail
unset SUBSET CHECKPOINT SPARSITY LARGE_SPARSE AVERAGE CDPATH # a system's settings are its name's
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES-0}" # of several GPUs one: the settings are for batches of one device
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/settings.sh"
WORK="${WORK:-$PWD/data-bin/translation}"
export SEED="${SEED:-1}" BOTTLENECK="${BOTTLENECK:-256}" LORA_RANK="${LORA_RANK:-64}"
export MAX_TOKENS="${MAX_TOKENS:-2048}"
read -ra systems <<<"${SYSTEMS:-lora-sparse0.4}"
export VOCAB="${VOCAB:-4000}" MAX_LENGTH="${MAX_LENGTH:-100}" DIM="${DIM:-256}" LAYERS="${LAYERS:-3}"
limit=()
if [[ "${QUICK:-0}" == 1 ]]; then
    WORK="$WORK/quick" VOCAB=2000 DIM=128 LAYERS=2 PRETRAIN_EPOCHS="${PRETRAIN_EPOCHS:-2}" EPOCHS="${EPOCHS:-1}"
    limit=(--limit 3000 --limit-test 200)
fi
[[ -n "${SPARSE_ADAPTER_DATA:-}" ]] || fail "set SPARSE_ADAPTER_DATA to the folder with multi30k and debian_descriptions"
for file in multi30k/train.en.gz debian_descriptions/en-de.tsv.gz; do
    [[ -f "$SPARSE_ADAPTER_DATA/$file" ]] || fail "SPARSE_ADAPTER_DATA $SPARSE_ADAPTER_DATA: $file is missing"
done

settings_of() { # the settings of system $1, one a line
    case "$1" in
        full) printf '%s\n' ADAPTER=none LR= ;;
        houlsby | houlsby-*) printf '%s\n' ADAPTER=houlsby "LR=${LR:-4e-3}" ;;
        lora | lora-*) printf '%s\n' ADAPTER=lora "LR=${LR:-3e-3}" ;;
        *) fail "SYSTEMS has $1; there are full, houlsby and lora, and variants of these two" ;;
    esac
    case "$1" in
        full | houlsby | lora) echo PRUNER=none ;;
        *-large-sparse[2-9]) printf '%s\n' PRUNER=snip "LARGE_SPARSE=${1#*-large-sparse}" ;;
        *-sparse0.[0-9]*) printf '%s\n' PRUNER=snip "SPARSITY=${1#*-sparse}" ;;
        *) fail "SYSTEMS has $1; after the family comes -sparse0.4 and the like, or -large-sparse4 and the like" ;;
    esac
}
flags_of() { # flags of fairseq-train for system $1: LoRA in every linear map of a layer
    case "$1" in lora*) echo --lora-sites q,k,v,out,fc1,fc2 --lora-alpha 64 ;; esac
}
for system in "${systems[@]}"; do settings_of "$system" >/dev/null; done

export PRETRAIN_EPOCHS="${PRETRAIN_EPOCHS:-10}"
FLAGS="$*" same_settings "$WORK/backbone" PRETRAIN_EPOCHS VOCAB MAX_LENGTH DIM LAYERS MAX_TOKENS SEED FLAGS
CORPORA="$(cat "$SPARSE_ADAPTER_DATA/multi30k/train.en.gz" "$SPARSE_ADAPTER_DATA/debian_descriptions/en-de.tsv.gz" | cksum)"
same_settings "$WORK/text" VOCAB MAX_LENGTH CORPORA
if [[ ! -f "$WORK/text/done" ]]; then
    pairs=(python "$here/debian_pairs.py" --debian "$SPARSE_ADAPTER_DATA/debian_descriptions/en-de.tsv.gz")
    "${pairs[@]}" ${limit[@]+"${limit[@]}"} --captions "$SPARSE_ADAPTER_DATA/multi30k" --out "$WORK/text/general"
    RAW="$WORK/text/general" DATA="$WORK/general" bash "$here/prepare.sh"
    "${pairs[@]}" ${limit[@]+"${limit[@]}"} --out "$WORK/text/software"
    RAW="$WORK/text/software" DATA="$WORK/software" BACKBONE_DIR="$WORK/general" bash "$here/prepare.sh"
    touch "$WORK/text/done"
fi

export BACKBONE="$WORK/backbone/checkpoint_best.pt"
if [[ ! -f "$WORK/backbone/done" ]]; then
    DATA="$WORK/general" SAVE_DIR="$WORK/backbone" LR= MAX_EPOCH="$PRETRAIN_EPOCHS" bash "$here/pretrain.sh" "$@"
    touch "$WORK/backbone/done"
fi

evaluate() { # system checkpoint: translate both test sets
    local domain
    for domain in software general; do
        if [[ ! -f "$WORK/runs/$1-seed$SEED/$domain/scores.json" ]]; then
            DATA="$WORK/$domain" SAVE_DIR="$WORK/runs/$1-seed$SEED/$domain" CHECKPOINT="$2" bash "$here/evaluate.sh"
        fi
    done
}
serve() { # translate the captions with the backbone beside which "$@" are served
    sed 's/^/none\t/' "$WORK/general/test.en" | sparse-adapter translate --backbone "$BACKBONE" "$@" \
        --data "$WORK/general" --source-lang en --target-lang de \
        --bpe sentencepiece --sentencepiece-model "$WORK/general/sentencepiece.bpe.model"
}
run="$WORK/runs/backbone-seed$SEED"
runs=("$run")
for domain in software general; do
    DATA="$WORK/$domain" same_settings "$run/$domain" DATA BACKBONE $DECODING_SETTINGS
done
evaluate backbone "$BACKBONE"
if [[ ! -f "$run/served.txt" ]]; then
    serve >"$run/served.txt.part"
    mv "$run/served.txt.part" "$run/served.txt"
fi
for system in "${systems[@]}"; do
    run="$WORK/runs/$system-seed$SEED"
    runs+=("$run")
    mapfile -t chosen < <(settings_of "$system")
    read -ra flags <<<"$(flags_of "$system")"
    (
        export "${chosen[@]}" DATA="$WORK/software" MAX_EPOCH="${EPOCHS:-4}" FLAGS="${flags[*]} $*"
        same_settings "$run" BACKBONE $RUN_SETTINGS
    )
    if [[ ! -f "$run/done" ]]; then
        env "${chosen[@]}" DATA="$WORK/software" SAVE_DIR="$run" MAX_EPOCH="${EPOCHS:-4}" \
            bash "$here/train.sh" ${flags[@]+"${flags[@]}"} "$@"
        touch "$run/done"
    fi
    evaluate "$system" "$run/checkpoint_best.pt"
    # Served beside others, but switched off, an adapter leaves the backbone's own translations.
    if [[ "$system" != full && ! -f "$run/switched_off" ]]; then
        serve --adapter "software=$run/checkpoint_best.pt" | cmp - "${runs[0]}/served.txt" ||
            fail "$run: switched off, the adapter changes the backbone's translations"
        touch "$run/switched_off"
    fi
done
python "$here/table.py" "${runs[@]}" --json "$WORK/results.json" | tee "$WORK/table.md"
