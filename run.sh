#!/usr/bin/env bash
# One command from a competition folder to a checked submission.
#
#   ./run.sh                                   the demo: installs, draws input/demo80, runs every stage on it
#   ./run.sh test                              installs if needed, then the whole test suite, on several cores
#   ./run.sh test -m "not slow"                the quick part of it; all words go to pytest
#   ./run.sh input/tiny80 --recipe resnet64    every stage on a competition folder of yours
#   ./run.sh study crnn                        a study's recipes, one after the other, beside its own figures
#   ./run.sh kaggle SLUG --recipe probe        a contest of Kaggle: downloaded into input/SLUG, then every stage
#   ./run.sh input/tiny80 --budget 8h          a campaign: recipes chosen, timed and judged, and the best submission
#   ./run.sh --help                            every word the stages understand
set -euo pipefail

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    local found
    found=$(python3 --version 2>/dev/null || echo "none")
    echo "error: foldsmith needs Python 3.11, 3.12 or 3.13, and found $found; install one, for example python3.12." >&2
    exit 2
}

lock_installation() {
    # two first uses at once would write into each other's .venv; a lock whose process has ended is taken over
    local lock="$here/.venv.lock" holder waiting=""
    until mkdir "$lock" 2>/dev/null; do
        holder=$(cat "$lock/pid" 2>/dev/null || true)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf "$lock"
            continue
        fi
        if [ -z "$waiting" ]; then
            echo "waiting for another ./run.sh, which installs into $venv"
            waiting=yes
        fi
        sleep 1
    done
    echo $$ >"$lock/pid"
    trap unlock_installation EXIT
}

unlock_installation() {
    rm -rf "$here/.venv.lock"
    trap - EXIT
}

install() {
    # .venv/installed holds the requirements that were installed, and is written last: a broken install is done again
    if cmp -s "$here/requirements.txt" "$venv/installed"; then
        return
    fi
    local python
    python=$(find_python)
    lock_installation
    if cmp -s "$here/requirements.txt" "$venv/installed"; then
        unlock_installation # the other one has installed it
        return
    fi
    echo "installing into $venv (once, a few minutes)"
    rm -rf "$venv"
    if command -v uv >/dev/null; then
        uv venv --seed --quiet --python "$(command -v "$python")" "$venv"
        uv pip install --quiet --compile-bytecode --python "$venv/bin/python" -r "$here/requirements.txt"
    else
        if ! "$python" -m venv "$venv"; then
            echo "error: $python cannot make a virtual environment; install its venv package (python3-venv)." >&2
            exit 2
        fi
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    fi
    cp "$here/requirements.txt" "$venv/installed"
    unlock_installation # exec runs no trap
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv="$here/.venv"
export NO_ALBUMENTATIONS_UPDATE=1

install
if [ "${1:-}" = test ]; then
    shift
    cd "$here"
    "$venv/bin/ruff" check --quiet .
    "$venv/bin/ruff" format --check --quiet .
    # a worker a core, each with one thread: on toy networks a second thread only waits; -n 0 starts no worker
    exec "$venv/bin/python" -m pytest -n auto --maxprocesses 8 --dist worksteal "$@"
fi
if [ "${1:-}" = study ]; then
    shift
    exec "$venv/bin/python" "$here/src/study.py" "$@"
fi
if [ "${1:-}" = kaggle ]; then
    shift
    exec "$venv/bin/python" "$here/src/contest.py" "$@"
fi
budget="" recipe=""
for word in "$@"; do
    case "$word" in
    --budget | --budget=*) budget=yes ;;
    --recipe | --recipe=*) recipe=yes ;;
    esac
done
# the budget of a single recipe is a word of its stages
if [ -n "$budget" ] && [ -z "$recipe" ]; then
    exec "$venv/bin/python" "$here/src/campaign.py" "$@"
fi
for word in "$@"; do
    if [ "$word" = --help ] || [ "$word" = -h ]; then
        sed -n '2,11s/^# \{0,1\}//p' "$here/run.sh"
    fi
done
# one process for all stages: they share its imports, and a signal reaches it directly
exec "$venv/bin/python" "$here/src/run.py" "$@"
