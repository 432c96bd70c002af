#!/usr/bin/env bash
# Predict the dev set of a task of GLUE and score the predictions.
#
#   TASK           cola, mrpc, sts-b, rte, sst-2, qnli, qqp, mnli, wnli or your own (default: DATA's, or rte)
#   BACKBONE_DIR   as in train.sh (default: examples/glue/minilm)
#   BACKBONE       where the backbone of an adapter file is now (default: where it was in training)
#   DATA           folder written by prepare.sh (default: data-bin/glue/TASK-BACKBONE_DIR's name)
#   SAVE_DIR       folder of the run (default: as in train.sh, from DATA, ADAPTER, BOTTLENECK, PRUNER, SPARSITY,
#                  LARGE_SPARSE, LORA_RANK, PREFIX_LENGTH and SEED)
#   CHECKPOINT     what to evaluate: a whole checkpoint, one of adapters alone, or a .safetensors of
#                  sparse-adapter extract (default: SAVE_DIR/checkpoint_last.pt)
#   BATCH_SIZE     examples of a batch (default: 64)
#   VENV           Python environment (default: the active one, or .venv)
#
# Writes into SAVE_DIR predictions.tsv, in the order of the dev file, and scores.json: Matthews correlation (CoLA),
# accuracy and F1 (MRPC, QQP), Pearson and Spearman correlation (STS-B), accuracy (others), each x 100 and over
# the whole set; of your own task accuracy, of two classes with F1 (of the second) and Matthews correlation, of scores
# both correlations. MNLI's mismatched set goes to predictions-mismatched.tsv.
#
#   TASK=rte ADAPTER=houlsby PRUNER=snip SPARSITY=0.4 bash examples/glue/evaluate.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"
run_settings
find_checkpoint checkpoint_last.pt

exec python examples/glue/evaluate.py --data "$DATA" --checkpoint "$CHECKPOINT" --save-dir "$SAVE_DIR" \
    --batch-size "${BATCH_SIZE:-64}" ${BACKBONE:+--backbone "$BACKBONE"}
