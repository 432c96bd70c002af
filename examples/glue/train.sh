#!/usr/bin/env bash
# Train adapters, pruned at initialisation, on a task of GLUE. A relaunch of the same command resumes. All visible
# GPUs are used; without one, the CPU is.
#
#   TASK           cola, mrpc, sts-b, rte, sst-2, qnli, qqp, mnli, wnli or your own (default: DATA's, or rte)
#   BACKBONE_DIR   folder with model.pt and dict.txt (default: examples/glue/minilm)
#   BACKBONE       the pretrained checkpoint, RoBERTa or BERT (default: BACKBONE_DIR/model.pt)
#   DATA           folder written by prepare.sh (default: data-bin/glue/TASK-BACKBONE_DIR's name)
#   ADAPTER        adapter family, or none for full fine-tuning (default: houlsby)
#   BOTTLENECK     adapter dimension (default: 64)
#   PRUNER         random, magnitude, er, snip, grasp; empty or none for dense adapters (default: snip)
#   SPARSITY       fraction of the adapters' weights to remove, 0 for dense adapters (default: 0.4)
#   LARGE_SPARSE   k: adapters k times larger at sparsity 1 - 1/k, instead of SPARSITY
#   LORA_RANK, PREFIX_LENGTH  of these families (default: 8, 30)
#   PRUNE_BATCHES  training batches that snip and grasp score on (default: 16 of 16 examples)
#   LR             peak learning rate (default: 5e-4 for models of less than 768 dimensions, of CoLA 1e-3, otherwise
#                  1e-4; with ADAPTER=none 1e-4 and 2e-5)
#   MAX_EPOCH      (default: 10)
#   MAX_UPDATE     stop after this many updates instead, if set
#   BATCH_SIZE     examples of a batch on one device, at most (default: 16/devices; to be set with
#                  --distributed-world-size and the like)
#   MAX_TOKENS     and their tokens, padding included (default: 4096)
#   SEED           of initialisation, pruning and data order (default: 1)
#   KEEP_EPOCHS    checkpoints of the last epochs to keep, as for sparse-adapter average (default: 0)
#   WHOLE          1: checkpoints hold the backbone too (default: 0, what is trained alone)
#   SAVE_DIR       (default: checkpoints/glue/DATA's name/houlsby64-snip0.4-seed1 and the like)
#   VENV           Python environment (default: the active one, or .venv)
#
# Houlsby's adapters in models of less than 768 dimensions have AdapterHub's form, swish and no LayerNorm, which was
# chosen on dev sets of MiniLM; --adapter-activation relu --adapter-layer-norm auto is that of the paper's code. The
# learning rate rises over the first 6 % of the updates and then falls linearly to 0; the last checkpoint is the one to
# evaluate. Arguments are passed on to fairseq-train and override what is set here.
#
#   TASK=rte ADAPTER=houlsby PRUNER=snip SPARSITY=0.4 bash examples/glue/train.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings
BACKBONE="${BACKBONE:-$BACKBONE_DIR/model.pt}"

rate=5e-4
if [[ "$TASK" == cola ]]; then rate=1e-3; fi
settle examples/glue/flags.py 1e-4 2e-5 "$rate" 1e-4
if [[ -n "$SMALL" && "$ADAPTER" == houlsby ]]; then
    settled+=(--adapter-activation swish --adapter-layer-norm none)
fi

arguments=(
    "$DATA" --user-dir user_dir --task sparse_adapter_sentence_prediction "${settled[@]}"
    --finetune-from-model "$BACKBONE" --adapter "$ADAPTER"
    --criterion sentence_prediction --dropout 0.1 --attention-dropout 0.1 --pooler-dropout 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)" --adam-eps 1e-6 --weight-decay 0.1 --clip-norm 0
    --lr "$LR" --lr-scheduler polynomial_decay
    ${BATCH_SIZE:+--batch-size "$BATCH_SIZE"} --max-tokens "${MAX_TOKENS:-4096}" --required-batch-size-multiple 1
    --seed "$SEED" --save-dir "$SAVE_DIR" --log-format simple --log-interval 10
)
add_adapter_flags 10
add_checkpoint_flags
train_with_warmup 6 "$@"
