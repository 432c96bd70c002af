# Sourced by prepare.sh, train.sh, evaluate.sh and predict.sh, which document the settings.
PATHS="GLUE_DIR DATA BACKBONE_DIR BACKBONE SAVE_DIR CHECKPOINT INPUT OUTPUT"
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

# What all scripts agree on: data are found again by their task and backbone.
data_settings() {
    TASK="${TASK:-rte}"
    BACKBONE_DIR="${BACKBONE_DIR:-examples/glue/minilm}"
    DATA="${DATA:-data-bin/glue/$TASK-$(basename "$BACKBONE_DIR")}"
}

# What train.sh, evaluate.sh and predict.sh agree on: a run is found again by its settings.
run_settings() {
    local asked="${TASK:-}" recorded
    data_settings
    adapter_settings 64
    SAVE_DIR="${SAVE_DIR:-checkpoints/glue/$(basename "$DATA")/$RUN}"

    if [[ ! -f "$DATA/prepare.json" ]]; then
        fail "DATA $DATA holds no prepared data; make it with TASK=$TASK GLUE_DIR=... bash examples/glue/prepare.sh"
    elif ! grep -q '"num_classes"' "$DATA/prepare.json"; then
        fail "DATA $DATA is not of examples/glue: its prepare.json says nothing of num_classes"
    fi
    # Its task is that of the data, which settles the learning rate.
    recorded="$(grep -m1 -o '"task": "[^"]*"' "$DATA/prepare.json" | cut -d'"' -f4)" || true
    [[ -z "$asked" || "$asked" == "${recorded:-$asked}" ]] ||
        fail "TASK $asked is not the task of DATA $DATA, which is $recorded: leave one of them out"
    TASK="${recorded:-$TASK}"
}
