# Sourced by quickstart.sh and test.sh: makes or reuses the environment in $VENV (default .venv) and puts
# it on the PATH. PYTHON names the interpreter (3.11 or 3.12) it is made with; $1 is a pip extra, "[test]".
# CONSTRAINTS is the file of versions to install (default: constraints.txt); empty, whatever fits.
VENV="${VENV:-.venv}"
PYTHON="${PYTHON:-python3}"
CONSTRAINTS="${CONSTRAINTS-constraints.txt}"

# One without pip is what an interruption has left, or a Python without ensurepip. One with other packages is somebody's.
if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    if [ -e "$VENV" ] && [ ! -f "$VENV/pyvenv.cfg" ]; then
        echo "error: VENV $VENV is no environment: name another folder" >&2
        exit 1
    elif [ -n "$(ls "$VENV"/lib/python*/site-packages 2>/dev/null |
        grep -vE '^(pip|setuptools|pkg_resources|_?distutils|_virtualenv)|:$|^$')" ]; then
        echo "error: VENV $VENV has packages and no pip: $VENV/bin/python -m ensurepip, or name another folder" >&2
        exit 1
    fi
    "$PYTHON" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else
        f"error: Python 3.11 or 3.12 is needed and {sys.executable} is {v[0]}.{v[1]}: set PYTHON")'
    echo "making the environment $VENV"
    "$PYTHON" -m venv --clear "$VENV"
fi
# Exported, because the examples' scripts would take an active environment before .venv.
export VENV="$(cd "$VENV" && pwd)"
export PATH="$VENV/bin:$PATH"
echo "installing into $VENV (the first time this downloads PyTorch)"
pip_install() {
    local pip=(python -m pip install --quiet --disable-pip-version-check ${CONSTRAINTS:+--constraint "$CONSTRAINTS"})
    # Where all is there, no network is needed: nodes that compute often have none.
    "${pip[@]}" --no-index --no-build-isolation --editable "$1" 2>/dev/null ||
        "${pip[@]}" "setuptools>=70.1" --editable "$1"
}
pip_install ".${1:-}"
