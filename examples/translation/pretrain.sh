#!/usr/bin/env bash
# Train a small Transformer from nothing, the backbone of the worked example: 3 + 3 pre-LN layers of 256 dimensions. A
# relaunch of the same command resumes.
#
#   SRC, TGT       languages (default: en, de)
#   DATA           folder written by prepare.sh (default: data-bin/translation/SRC-TGT); it is then the BACKBONE_DIR
#                  that data for adapters are prepared with
#   SAVE_DIR       (default: checkpoints/translation/DATA's name/backbone-seed1 and the like; SRC-TGT comes after the
#                  name where that does not say it); checkpoint_best.pt is the BACKBONE
#   LAYERS, DIM    layers of the encoder and of the decoder, dimensions (default: 3, 256)
#   LR             peak learning rate (default: 2e-3)
#   MAX_EPOCH      (default: 12)
#   MAX_UPDATE     stop after this many updates instead, if set
#   MAX_TOKENS     tokens of a batch on one device, padding included (default: 4096)
#   SEED           (default: 1)
#   VENV           Python environment (default: the active one, or .venv)
#
# Arguments are passed on to fairseq-train.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
ADAPTER=none
given="${SAVE_DIR:-}"
run_settings
SAVE_DIR="${given:-$(dirname "$SAVE_DIR")/backbone-seed$SEED}"

share=--share-all-embeddings
cmp --silent "$DATA/dict.$SRC.txt" "$DATA/dict.$TGT.txt" || share=--share-decoder-input-output-embed
DIM="${DIM:-256}" LAYERS="${LAYERS:-3}" LR="${LR:-2e-3}"
[[ "$DIM" =~ ^[0-9]+$ ]] && ((DIM > 0 && DIM % 64 == 0)) || fail "DIM $DIM: a multiple of 64, the size of a head"
arguments=(
    "$DATA" --user-dir user_dir "${task_flags[@]}" --arch transformer
    --encoder-layers "$LAYERS" --decoder-layers "$LAYERS" --encoder-embed-dim "$DIM" --decoder-embed-dim "$DIM"
    --encoder-ffn-embed-dim $((DIM * 4)) --decoder-ffn-embed-dim $((DIM * 4))
    --encoder-attention-heads $((DIM / 64)) --decoder-attention-heads $((DIM / 64))
    --encoder-normalize-before --decoder-normalize-before "$share"
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --dropout 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)" --weight-decay 0.0 --clip-norm 1.0
    --lr "$LR" --lr-scheduler polynomial_decay
    --max-tokens "${MAX_TOKENS:-4096}" --required-batch-size-multiple 1
    --seed "$SEED" --save-dir "$SAVE_DIR" --no-epoch-checkpoints --log-format simple --log-interval 20
)
add_adapter_flags 12
if without_gpu; then arguments+=(--cpu); fi
train_with_warmup 10 "$@"
