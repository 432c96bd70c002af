#!/usr/bin/env bash
# Pretrain bart_mini, the small BART that this repository brings, from the text of the training splits.
#
#   TEXT_DATA    folder with debian_descriptions, squad and xsum (required; see collect_text.py)
#   WORK         where everything is written (default: data-bin/pretraining)
#   MAX_UPDATE   length of the training (default: 7200)
#   VENV         Python environment (default: the active one, or .venv)
#
# On a GPU, pass fairseq's --fp16 and larger batches: bash pretrain.sh --fp16 --max-tokens 16384
set -euo pipefail
PATHS="TEXT_DATA WORK"
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
[[ -n "${TEXT_DATA:-}" ]] || fail "set TEXT_DATA to the folder with debian_descriptions, squad and xsum"
WORK="${WORK:-data-bin/pretraining}"
MAX_UPDATE="${MAX_UPDATE:-7200}"
mkdir -p "$WORK"

if [[ ! -f "$WORK/bin/train.bin" ]]; then
    python scripts/docstring_corpus.py "$WORK/docstrings" --text "$WORK/docstrings.txt"
    python examples/pretraining/collect_text.py --docstrings "$WORK/docstrings.txt" --data "$TEXT_DATA" --out "$WORK"
    python examples/pretraining/encode_text.py "$WORK"
    fairseq-preprocess --only-source --srcdict "$WORK/dict.txt" --trainpref "$WORK/train.spm" \
        --validpref "$WORK/valid.spm" --destdir "$WORK/bin.part" --workers 2
    mv "$WORK/bin.part" "$WORK/bin"
fi

# Copying is learnt on short crops first; then the positions up to 512. The second command resumes the first.
train() {
    fairseq-train "$WORK/bin" --user-dir examples/pretraining/cpu_plugin --task denoising --arch bart_xavier \
        --encoder-layers 4 --decoder-layers 4 --encoder-embed-dim 256 --encoder-ffn-embed-dim 1024 \
        --encoder-attention-heads 4 --decoder-attention-heads 4 --encoder-normalize-before --decoder-normalize-before \
        --share-all-embeddings --layernorm-embedding --max-source-positions 512 --max-target-positions 512 \
        --sample-break-mode eos --mask 0.3 --mask-length span-poisson --poisson-lambda 3.5 --replace-length 1 \
        --mask-random 0.1 --rotate 0 --permute-sentences 0 --insert 0 \
        --criterion cross_entropy_cpu_bf16 --dropout 0 --optimizer adam --adam-betas '(0.9,0.98)' --adam-eps 1e-6 \
        --weight-decay 0.01 --clip-norm 0.5 --lr 1e-3 --lr-scheduler polynomial_decay --warmup-updates 500 \
        --total-num-update "$MAX_UPDATE" --max-tokens 2048 --required-batch-size-multiple 1 --num-workers 1 \
        --seed 1 --no-epoch-checkpoints --save-interval-updates 500 --validate-interval-updates 500 \
        --keep-interval-updates 1 --log-format simple --log-interval 50 --save-dir "$WORK/checkpoints" $DEVICE "$@"
}
DEVICE="$(python -c 'import torch; print("" if torch.cuda.is_available() else "--cpu")')"
if [[ ! -f "$WORK/checkpoints/stage1.done" ]]; then
    train --tokens-per-sample 64 --shorten-method random_crop --max-update 1000 "$@"
    touch "$WORK/checkpoints/stage1.done"
fi
train --tokens-per-sample 490 --shorten-method truncate --max-update "$MAX_UPDATE" "$@"

mkdir -p "$WORK/bart_mini"
python examples/pretraining/export_backbone.py "$WORK/checkpoints/checkpoint_last.pt" "$WORK/bart_mini/model.pt"
cp "$WORK/dict.txt" "$WORK/sentencepiece.bpe.model" "$WORK/bart_mini/"
