# Sourced by prepare.sh, train.sh and evaluate.sh, which document the settings. As in the example of GLUE, whose
# settings hold here too: --help, paths relative to the caller's folder, the environment, names of runs.

for name in SQUAD_TRAIN SQUAD_DEV; do
    case "${!name:-/}" in
        /*) ;;
        *) printf -v "$name" '%s/%s' "$PWD" "${!name}" ;;
    esac
done
source "$(dirname "${BASH_SOURCE[0]}")/../glue/settings.sh"

# What all scripts agree on: data are found again by their backbone.
data_settings() {
    BACKBONE_DIR="${BACKBONE_DIR:-examples/glue/minilm}"
    DATA="${DATA:-data-bin/squad/$(basename "$BACKBONE_DIR")}"
}

# What train.sh and evaluate.sh agree on: a run is found again by its settings.
squad_run_settings() {
    local given="${SAVE_DIR:-}"
    data_settings
    if [[ ! -f "$DATA/prepare.json" ]]; then
        fail "DATA $DATA holds no prepared data; make it with SQUAD_TRAIN=... SQUAD_DEV=... bash examples/squad/prepare.sh"
    fi
    BOTTLENECK="${BOTTLENECK:-256}" TASK=squad
    run_settings
    if [[ -z "$given" ]]; then SAVE_DIR="checkpoints/squad/${SAVE_DIR#checkpoints/glue/}"; fi
}
