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

# What all that decode agree on: how, and in text_options, how symbols become text.
decoding_settings() {
    BEAM="${BEAM:-6}" LENPEN="${LENPEN:-1}" MAX_LEN_B="${MAX_LEN_B:-60}" MIN_LEN="${MIN_LEN:-10}"
    NO_REPEAT_NGRAM="${NO_REPEAT_NGRAM:-3}"
    if [[ -f "$DATA/sentencepiece.bpe.model" ]]; then
        text_options=(--bpe sentencepiece --sentencepiece-model "$DATA/sentencepiece.bpe.model")
    elif [[ -f "$DATA/encoder.json" && -f "$DATA/vocab.bpe" ]]; then
        text_options=(--bpe gpt2 --gpt2-encoder-json "$DATA/encoder.json" --gpt2-vocab-bpe "$DATA/vocab.bpe")
    else
        fail "$DATA holds neither sentencepiece.bpe.model nor encoder.json and vocab.bpe; make it with prepare.sh"
    fi
}

# What evaluate.sh and interactive.sh give to fairseq, in options.
decoding_options() {
    decoding_settings
    options=(
        --task sparse_adapter_translation --source-lang source --target-lang target
        --max-source-positions "$MAX_POSITIONS" --max-target-positions "$MAX_POSITIONS"
        --beam "$BEAM" --lenpen "$LENPEN" --max-len-b "$MAX_LEN_B" --min-len "$MIN_LEN"
        --no-repeat-ngram-size "$NO_REPEAT_NGRAM" "${text_options[@]}"
    )
    add_backbone
}
