# Sourced by prepare.sh, train.sh, evaluate.sh and families.sh, which document the settings.
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
}
