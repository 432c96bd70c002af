#!/usr/bin/env bash
# Answer the questions of the dev set and score the answers.
#
#   BACKBONE_DIR   as in train.sh (default: examples/glue/minilm)
#   BACKBONE       where the backbone of an adapter file is now (default: where it was in training)
#   DATA           folder written by prepare.sh (default: data-bin/squad/BACKBONE_DIR's name)
#   SAVE_DIR       folder of the run (default: as in train.sh, from DATA, ADAPTER, BOTTLENECK, PRUNER, SPARSITY,
#                  LARGE_SPARSE, LORA_RANK, PREFIX_LENGTH and SEED)
#   CHECKPOINT     what to evaluate: a whole checkpoint, one of adapters alone, or a .safetensors of
#                  sparse-adapter extract (default: SAVE_DIR/checkpoint_last.pt)
#   N_BEST         answers of each question in nbest_predictions.json (default: 20)
#   MAX_ANSWER     longest answer in tokens (default: 30)
#   MAX_TOKENS     tokens of a batch, padding included (default: 8192)
#   VENV           Python environment (default: the active one, or .venv)
#
# Writes into SAVE_DIR predictions.json, the official format, nbest_predictions.json and scores.json: exact match and
# F1 x 100 over the whole dev set, as the official script defines them.
#
#   ADAPTER=houlsby PRUNER=snip SPARSITY=0.4 bash examples/squad/evaluate.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"
run_settings
find_checkpoint checkpoint_last.pt

exec python examples/squad/evaluate.py --data "$DATA" --checkpoint "$CHECKPOINT" --save-dir "$SAVE_DIR" \
    --n-best "${N_BEST:-20}" --max-answer-length "${MAX_ANSWER:-30}" --max-tokens "${MAX_TOKENS:-8192}" \
    ${BACKBONE:+--backbone "$BACKBONE"}
