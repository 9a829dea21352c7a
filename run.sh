#!/usr/bin/env bash
# One command from a competition folder to a checked submission.
#
#   ./run.sh                                   the demo: installs, draws input/demo80, runs every stage on it
#   ./run.sh test                              installs if needed, then the whole test suite
#   ./run.sh input/tiny80 --recipe resnet64    every stage on a competition folder of yours
#   ./run.sh --help                            every word the stages understand
set -euo pipefail

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    local found
    found=$(python3 --version 2>/dev/null || echo "none")
    echo "error: foldsmith needs Python 3.11 or newer, and found $found; install one, for example python3.12." >&2
    exit 2
}

install() {
    # .venv/installed holds the requirements it was made for, and is written last: a broken install is done again
    if cmp -s requirements.txt .venv/installed; then
        return
    fi
    local python
    python=$(find_python)
    echo "installing into .venv (once, a few minutes)"
    if command -v uv >/dev/null; then
        uv venv --quiet --clear --python "$(command -v "$python")" .venv
        uv pip install --quiet --python .venv/bin/python -r requirements.txt
    else
        if ! "$python" -m venv --clear .venv; then
            echo "error: $python cannot make a virtual environment; install its venv package (python3-venv)." >&2
            exit 2
        fi
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    fi
    cp requirements.txt .venv/installed
}

# paths are relative to this folder, wherever it is called from
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
export NO_ALBUMENTATIONS_UPDATE=1

install
if [ "${1:-}" = test ]; then
    shift
    .venv/bin/ruff check --quiet .
    .venv/bin/ruff format --check --quiet .
    exec .venv/bin/python -m pytest "$@"
fi
for word in "$@"; do
    if [ "$word" = --help ] || [ "$word" = -h ]; then
        sed -n '2,7s/^# \{0,1\}//p' run.sh
        exec .venv/bin/python src/prepare.py --help
    fi
done
for stage in demo prepare split train validate infer submit score; do
    .venv/bin/python "src/$stage.py" "$@"
done
