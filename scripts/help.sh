# Sourced by scripts before they go anywhere: for --help, prints the header of the script and ends it.
unset CDPATH  # with which cd may go elsewhere, and prints where
if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
    exit 0
fi
