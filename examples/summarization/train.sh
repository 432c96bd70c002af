#!/usr/bin/env bash
# Train adapters, pruned at initialisation, on binarised summarisation data. A relaunch of the same command
# resumes. All visible GPUs are used; without one, the CPU is.
#
#   DATA           folder written by prepare.sh (default: data-bin/xsum)
#   ARCH           sparse_adapter_bart_mini, _base or _large (default: sparse_adapter_bart_mini)
#   BACKBONE       pretrained fairseq checkpoint of that size
#                  (default for bart_mini: examples/pretraining/bart_mini/model.pt)
#   ADAPTER        adapter family, or none for full fine-tuning (default: houlsby)
#   PRUNER         random, magnitude, er, snip, grasp; empty or none for dense adapters (default: snip)
#   SPARSITY       fraction of the adapters' weights to remove, 0 for dense adapters (default: 0.4)
#   LARGE_SPARSE   k: adapters k times larger at sparsity 1 - 1/k, instead of SPARSITY
#   LORA_RANK, PREFIX_LENGTH  of these families (default: 8, 30)
#   PRUNE_BATCHES  training batches that snip and grasp score on (default: 16)
#   SEED           of initialisation, pruning and data order (default: 1)
#   KEEP_EPOCHS    checkpoints of the last epochs to keep, as for sparse-adapter average (default: 0)
#   WHOLE          1: checkpoints hold the backbone too (default: 0, what is trained alone)
#   EVAL_ROUGE     1: decode and score the validation set after every epoch, with the settings BEAM, LENPEN, MAX_LEN_B,
#                  MIN_LEN, NO_REPEAT_NGRAM and ROUGE_WORDS of evaluate.sh, and take the best checkpoint by ROUGE-2
#                  (default: 0, by the loss)
#   SAVE_DIR       (default: checkpoints/summarization/DATA's name/bart_mini-houlsby64-snip0.4-seed1
#                  and the like)
#   VENV           Python environment (default: the active one, or .venv)
#
# and, by size of the model, base and large (the paper's set-up) and mini:
#
#                  base, large   mini
#   BOTTLENECK     512           64      adapter dimension
#   LR             1e-4          4e-3    peak learning rate (with ADAPTER=none: 3e-5 and 3e-4)
#   MAX_EPOCH      10            10
#   MAX_UPDATE                           stop after this many updates instead, if set
#   MAX_TOKENS     2048          4096    tokens of a batch on one device, padding included
#   UPDATE_FREQ    16/devices    1       batches that are summed up to one update; to be set with
#                                        --distributed-world-size and the like
#   MAX_POSITIONS  1024          512     positions of the backbone
#
# The learning rate rises over the first tenth of the updates and then falls linearly to 0. Arguments are
# passed on to fairseq-train and override what is set here; on GPUs, --fp16 is worth adding.
#
#   ADAPTER=houlsby PRUNER=snip SPARSITY=0.4 bash examples/summarization/train.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
run_settings

if [[ "$ARCH" == *_mini ]]; then
    BACKBONE="${BACKBONE:-examples/pretraining/bart_mini/model.pt}"
fi
[[ -n "${BACKBONE:-}" ]] || fail "set BACKBONE to the pretrained checkpoint of $ARCH; --help lists the settings"
[[ -f "$BACKBONE" ]] || fail "BACKBONE $BACKBONE: there is no such file"

GPUS="$(python -c 'import torch; print(torch.cuda.device_count())')"
DEVICES="${WORLD_SIZE:-$((GPUS > 0 ? GPUS : 1))}"
if [[ "$ARCH" == *_mini ]]; then
    LR="${LR:-$([[ "$ADAPTER" == none ]] && echo 3e-4 || echo 4e-3)}"
    MAX_TOKENS="${MAX_TOKENS:-4096}"
    UPDATE_FREQ="${UPDATE_FREQ:-1}"
else
    LR="${LR:-$([[ "$ADAPTER" == none ]] && echo 3e-5 || echo 1e-4)}"
    MAX_TOKENS="${MAX_TOKENS:-2048}"
    UPDATE_FREQ="${UPDATE_FREQ:-$((DEVICES < 16 ? 16 / DEVICES : 1))}"
fi

arguments=(
    "$DATA" --user-dir user_dir --task sparse_adapter_translation
    --source-lang source --target-lang target --truncate-source
    --max-source-positions "$MAX_POSITIONS" --max-target-positions "$MAX_POSITIONS"
    --arch "$ARCH" --finetune-from-model "$BACKBONE"
    --adapter "$ADAPTER"
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)" --weight-decay 0.1 --clip-norm 0.1
    --lr "$LR" --lr-scheduler polynomial_decay
    --max-tokens "$MAX_TOKENS" --update-freq "$UPDATE_FREQ" --required-batch-size-multiple 1
    --seed "$SEED" --save-dir "$SAVE_DIR" --log-format simple --log-interval 10
)
add_adapter_flags 10
add_checkpoint_flags
if [[ "${EVAL_ROUGE:-0}" == 1 ]]; then
    decoding_settings
    # JSON knows no .8
    LENPEN="$(python -c 'import sys; print(float(sys.argv[1]))' "$LENPEN" 2>/dev/null)" || fail "LENPEN is no number"
    decoding="{\"beam\": $BEAM, \"lenpen\": $LENPEN, \"max_len_b\": $MAX_LEN_B, \"min_len\": $MIN_LEN"
    arguments+=(
        --eval-rouge --eval-rouge-args "$decoding, \"no_repeat_ngram_size\": $NO_REPEAT_NGRAM}" "${text_options[@]}"
        --eval-rouge-words "${ROUGE_WORDS:-english}" --best-checkpoint-metric rouge2 --maximize-best-checkpoint-metric
    )
fi
if ((GPUS == 0)); then arguments+=(--cpu); fi
train_with_warmup 10 "$@"
