# Sourced by prepare.sh, train.sh, evaluate.sh and predict.sh, which document the settings.
PATHS="SQUAD_TRAIN SQUAD_DEV DATA BACKBONE_DIR BACKBONE SAVE_DIR CHECKPOINT INPUT OUTPUT"
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

# What all scripts agree on: data are found again by their backbone.
data_settings() {
    BACKBONE_DIR="${BACKBONE_DIR:-examples/glue/minilm}"
    DATA="${DATA:-data-bin/squad/$(basename "$BACKBONE_DIR")}"
}

# What train.sh, evaluate.sh and predict.sh agree on: a run is found again by its settings.
run_settings() {
    data_settings
    adapter_settings 256
    SAVE_DIR="${SAVE_DIR:-checkpoints/squad/$(basename "$DATA")/$RUN}"

    if [[ ! -f "$DATA/prepare.json" ]]; then
        fail "DATA $DATA holds no prepared data; make it with SQUAD_TRAIN=... SQUAD_DEV=... bash examples/squad/prepare.sh"
    elif ! grep -q '"doc_stride"' "$DATA/prepare.json"; then
        fail "DATA $DATA is not of examples/squad: its prepare.json says nothing of doc_stride"
    fi
}
