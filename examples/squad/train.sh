#!/usr/bin/env bash
# Train adapters, pruned at initialisation, on SQuAD v1.1. A relaunch of the same command resumes. All visible GPUs
# are used; without one, the CPU is.
#
#   BACKBONE_DIR   folder with model.pt and dict.txt (default: examples/glue/minilm)
#   BACKBONE       the pretrained checkpoint, RoBERTa or BERT (default: BACKBONE_DIR/model.pt)
#   DATA           folder written by prepare.sh (default: data-bin/squad/BACKBONE_DIR's name)
#   ADAPTER        adapter family, or none for full fine-tuning (default: houlsby)
#   BOTTLENECK     adapter dimension (default: 256)
#   PRUNER         random, magnitude, er, snip, grasp; empty or none for dense adapters (default: snip)
#   SPARSITY       fraction of the adapters' weights to remove, 0 for dense adapters (default: 0.4)
#   LARGE_SPARSE   k: adapters k times larger at sparsity 1 - 1/k, instead of SPARSITY
#   LORA_RANK, PREFIX_LENGTH  of these families (default: 8, 30)
#   PRUNE_BATCHES  training batches that snip and grasp score on (default: 16 of 4096 tokens)
#   LR             peak learning rate (default: 1e-3 for models of less than 768 dimensions, otherwise 2e-4;
#                  with ADAPTER=none 1e-4 and 3e-5)
#   MAX_EPOCH      (default: 3)
#   MAX_UPDATE     stop after this many updates instead, if set
#   MAX_TOKENS     tokens of a batch on one device, padding included (default: 4096/devices, at least a window; to be set
#                  with --distributed-world-size and the like)
#   SEED           of initialisation, pruning and data order (default: 1)
#   KEEP_EPOCHS    checkpoints of the last epochs to keep, as for sparse-adapter average (default: 0)
#   WHOLE          1: checkpoints hold the backbone too (default: 0, what is trained alone)
#   SAVE_DIR       (default: checkpoints/squad/DATA's name/houlsby256-snip0.4-seed1 and the like)
#   VENV           Python environment (default: the active one, or .venv)
#
# The learning rate rises over the first tenth of the updates and then falls linearly to 0; the last checkpoint is
# the one to evaluate. After each epoch, exact match and F1 of the dev set are logged. Arguments are passed on to
# fairseq-train and override what is set here.
#
#   ADAPTER=houlsby PRUNER=snip SPARSITY=0.4 bash examples/squad/train.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings
BACKBONE="${BACKBONE:-$BACKBONE_DIR/model.pt}"

settle examples/squad/train_flags.py 1e-4 3e-5 1e-3 2e-4

arguments=(
    "$DATA" --user-dir user_dir --task sparse_adapter_squad "${settled[@]}"
    --finetune-from-model "$BACKBONE" --adapter "$ADAPTER"
    --criterion sentence_prediction --classification-head-name span
    --dropout 0.1 --attention-dropout 0.1 --pooler-dropout 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)" --adam-eps 1e-6 --weight-decay 0.1 --clip-norm 1
    --lr "$LR" --lr-scheduler polynomial_decay
    ${MAX_TOKENS:+--max-tokens "$MAX_TOKENS"} --required-batch-size-multiple 1
    --seed "$SEED" --save-dir "$SAVE_DIR" --log-format simple --log-interval 10
)
add_adapter_flags 3
add_checkpoint_flags
train_with_warmup 10 "$@"
