#!/usr/bin/env bash
# Install into a virtual environment and run the tests. Arguments go to pytest.
#
#   VENV     the environment, made where it does not exist (default: .venv)
#   PYTHON   the interpreter to make it with, 3.11 or 3.12 (default: python3)
#   WORKERS  processes that share the tests; 0 for one process, as --pdb needs it (default: 2)
#   CONSTRAINTS  file of versions to install (default: constraints.txt); empty, whatever fits
#   SPARSE_ADAPTER_DATA   folder of real data sets; tests that need one are skipped without it (default:
#            ../shared/data)
#
#   bash scripts/test.sh                # everything but the slow tests
#   bash scripts/test.sh -m slow        # the slow tests
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh "[test,study]"
# The public implementations that the parity tests compare with; without them these tests are skipped.
pip_install ".[peers]" ||
    echo "note: the extra 'peers' could not be installed, its tests are skipped" >&2
# Models are tiny here: a second thread costs more than it brings.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Tests of training say --cpu, with which fairseq would still use GPUs in part.
export CUDA_VISIBLE_DEVICES=
exec python -m pytest --numprocesses "${WORKERS:-2}" --dist worksteal "$@"
