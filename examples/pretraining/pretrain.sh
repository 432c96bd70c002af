#!/usr/bin/env bash
# Pretrain bart_mini, the small BART that this repository brings, from the text of the training splits.
#
#   TEXT_DATA    folder with debian_descriptions, squad and xsum (required; see collect_text.py)
#   WORK         where everything is written (default: data-bin/pretraining)
#   MAX_UPDATE   length of the training (default: 8500)
#   VENV         Python environment (default: .venv)
#
# On a GPU, pass fairseq's --fp16 and larger batches: bash pretrain.sh --fp16 --max-tokens 16384
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$(cd "${VENV:-.venv}" && pwd)/bin:$PATH" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
: "${TEXT_DATA:?set TEXT_DATA to the folder with debian_descriptions, squad and xsum}"
WORK="${WORK:-data-bin/pretraining}"
MAX_UPDATE="${MAX_UPDATE:-8500}"
mkdir -p "$WORK"

if [ ! -f "$WORK/bin/train.bin" ]; then
    python scripts/docstring_corpus.py "$WORK/docstrings" --text "$WORK/docstrings.txt"
    python examples/pretraining/collect_text.py --docstrings "$WORK/docstrings.txt" --data "$TEXT_DATA" --out "$WORK"
    python examples/pretraining/encode_text.py "$WORK"
    fairseq-preprocess --only-source --srcdict "$WORK/dict.txt" --trainpref "$WORK/train.spm" \
        --validpref "$WORK/valid.spm" --destdir "$WORK/bin" --workers 2
fi
