# Sourced by the scripts of this folder, which document the settings.
PATHS="RAW DATA BACKBONE_DIR BACKBONE SAVE_DIR CHECKPOINT WORK SPARSE_ADAPTER_DATA"
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

# What all scripts agree on: data are found again by their languages.
data_settings() {
    SRC="${SRC:-en}"
    TGT="${TGT:-de}"
    DATA="${DATA:-data-bin/translation/$SRC-$TGT}"
}

# What train.sh and evaluate.sh agree on: a run is found again by its settings.
run_settings() {
    data_settings
    adapter_settings 64
    local name="$(basename "$DATA")"
    if [[ "$name" != *"$SRC-$TGT"* ]]; then name="$name-$SRC-$TGT"; fi  # data serve both directions
    SAVE_DIR="${SAVE_DIR:-checkpoints/translation/$name/$RUN}"

    if [[ ! -f "$DATA/prepare.json" ]]; then
        fail "DATA $DATA holds no prepared data; make it with SRC=$SRC TGT=$TGT RAW=... bash examples/translation/prepare.sh"
    fi
    if [[ ! -f "$DATA/dict.$SRC.txt" || ! -f "$DATA/dict.$TGT.txt" ]]; then
        fail "DATA $DATA holds no $SRC-$TGT; it holds $(cd "$DATA" && echo dict.*.txt)"
    fi
    task_flags="$(python examples/translation/task_flags.py --data "$DATA" --source "$SRC" --target "$TGT")"
    mapfile -t task_flags <<<"$task_flags"
}

# By which fairseq-generate and fairseq-interactive turn symbols into text, in text_flags.
text_flags() {
    local flags
    flags="$(python examples/translation/encode.py --data "$DATA" --flags)"
    mapfile -t text_flags <<<"$flags"
}

# What fairseq's commands are told of a model beside its path, in options.
model_options() {
    options=()
    add_backbone
}
