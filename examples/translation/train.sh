#!/usr/bin/env bash
# Train adapters, pruned at initialisation, for translation. A relaunch of the same command resumes. All visible GPUs
# are used; without one, the CPU is.
#
#   SRC, TGT       languages (default: en, de)
#   DATA           folder written by prepare.sh with BACKBONE_DIR (default: data-bin/translation/SRC-TGT)
#   BACKBONE       pretrained fairseq checkpoint, Transformer, BART or mBART, whose architecture and sizes are read from it
#                  (required)
#   ADAPTER        adapter family, or none for full fine-tuning (default: houlsby)
#   BOTTLENECK     adapter dimension (default: 64)
#   PRUNER         random, magnitude, er, snip, grasp; empty or none for dense adapters (default: snip)
#   SPARSITY       fraction of the adapters' weights to remove, 0 for dense adapters (default: 0.4)
#   LARGE_SPARSE   k: adapters k times larger at sparsity 1 - 1/k, instead of SPARSITY
#   LORA_RANK, PREFIX_LENGTH  of these families (default: 8, 30)
#   PRUNE_BATCHES  training batches that snip and grasp score on (default: 16)
#   LR             peak learning rate (default: 2e-3 for models of less than 768 dimensions, otherwise 1e-4; with
#                  ADAPTER=none 5e-4 and 3e-5)
#   MAX_EPOCH      (default: 10)
#   MAX_UPDATE     stop after this many updates instead, if set
#   MAX_TOKENS     tokens of a batch on one device, padding included (default: 4096)
#   UPDATE_FREQ    batches that are summed up to one update (default: 1)
#   DROPOUT        (default: 0.1)
#   KEEP_EPOCHS    checkpoints of the last epochs to keep for averaging (default: 0)
#   SEED           of initialisation, pruning and data order (default: 1)
#   WHOLE          1: checkpoints hold the backbone too (default: 0, what is trained alone)
#   SAVE_DIR       (default: checkpoints/translation/DATA's name/houlsby64-snip0.4-seed1 and the like; SRC-TGT comes
#                  after the name where that does not say it)
#   VENV           Python environment (default: the active one, or .venv)
#
# The learning rate rises over the first tenth of the updates and then falls linearly to 0. Arguments are passed on
# to fairseq-train and override what is set here; on GPUs, --fp16 is worth adding.
#
#   BACKBONE=wmt/model.pt ADAPTER=houlsby PRUNER=snip SPARSITY=0.4 bash examples/translation/train.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings
[[ -n "${BACKBONE:-}" ]] || fail "set BACKBONE to the pretrained checkpoint; --help lists the settings"

settle examples/translation/flags.py 5e-4 3e-5 2e-3 1e-4

arguments=(
    "$DATA" --user-dir user_dir "${task_flags[@]}" "${settled[@]}"
    --finetune-from-model "$BACKBONE" --adapter "$ADAPTER"
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --dropout "${DROPOUT:-0.1}"
    --optimizer adam --adam-betas "(0.9, 0.98)" --weight-decay 0.0 --clip-norm 1.0
    --lr "$LR" --lr-scheduler polynomial_decay
    --max-tokens "${MAX_TOKENS:-4096}" --update-freq "${UPDATE_FREQ:-1}" --required-batch-size-multiple 1
    --seed "$SEED" --save-dir "$SAVE_DIR" --log-format simple --log-interval 20
)
add_adapter_flags 10
add_checkpoint_flags
train_with_warmup 10 "$@"
