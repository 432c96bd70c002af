# Sourced by the scripts of this folder, which document the settings.
PATHS="RAW DATA BACKBONE_DIR BACKBONE SAVE_DIR CHECKPOINT"
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

# What train.sh and evaluate.sh agree on: a run is found again by its settings.
run_settings() {
    DATA="${DATA:-data-bin/xsum}"
    ARCH="${ARCH:-sparse_adapter_bart_mini}"
    case "$ARCH" in
        *_mini) adapter_settings 64 && MAX_POSITIONS="${MAX_POSITIONS:-512}" ;;
        *) adapter_settings 512 && MAX_POSITIONS="${MAX_POSITIONS:-1024}" ;;
    esac
    SAVE_DIR="${SAVE_DIR:-checkpoints/summarization/$(basename "$DATA")/${ARCH#sparse_adapter_}-$RUN}"

    if [[ ! -f "$DATA/dict.source.txt" ]]; then
        fail "DATA $DATA holds no binarised data; make it with RAW=... DATA=... bash examples/summarization/prepare.sh"
    fi
    local side cut
    for side in source target; do
        cut="$(sed -n "s/.*\"max_$side\": \([0-9]*\).*/\1/p" "$DATA/prepare.json" 2>/dev/null)" || true
        if ((${cut:-0} > MAX_POSITIONS)); then
            fail "DATA $DATA has examples of $cut tokens, and the model $MAX_POSITIONS positions (by ARCH=$ARCH): set" \
                "ARCH or MAX_POSITIONS as in training, or MAX_${side^^}=$MAX_POSITIONS for prepare.sh"
        fi
    done
}

# What evaluate.sh and interactive.sh agree on: task, decoding and how symbols become text, in options.
decoding_settings() {
    options=(
        --task sparse_adapter_translation --source-lang source --target-lang target
        --max-source-positions "$MAX_POSITIONS" --max-target-positions "$MAX_POSITIONS"
        --beam "${BEAM:-6}" --lenpen "${LENPEN:-1}" --max-len-b "${MAX_LEN_B:-60}" --min-len "${MIN_LEN:-10}"
        --no-repeat-ngram-size "${NO_REPEAT_NGRAM:-3}"
    )
    if [[ -f "$DATA/sentencepiece.bpe.model" ]]; then
        options+=(--bpe sentencepiece --sentencepiece-model "$DATA/sentencepiece.bpe.model")
    elif [[ -f "$DATA/encoder.json" && -f "$DATA/vocab.bpe" ]]; then
        options+=(--bpe gpt2 --gpt2-encoder-json "$DATA/encoder.json" --gpt2-vocab-bpe "$DATA/vocab.bpe")
    else
        fail "$DATA holds neither sentencepiece.bpe.model nor encoder.json and vocab.bpe; make it with prepare.sh"
    fi
    add_backbone
}
