#!/bin/sh
# Install the project into .venv, once: tools/setup.sh runtime | dev | gpu
#   runtime  what a sweep needs, with CuPy if there is an NVIDIA GPU
#   dev      runtime and the tools of `make test` and `make check`
#   gpu      runtime, after looking again for a GPU
# $PYTHON names the Python to build .venv with. .venv/unfinished exists while packages are being written: if an
# interrupted call left it behind, no file in .venv can be trusted and the next call starts from nothing.
set -eu
cd "$(dirname "$0")/.."
what=$1
log=.venv/installed # .venv/installed-WHAT holds the checksums of the files that decided what was installed

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

suits() { # COMMAND MODULE: does COMMAND start a Python 3.11 or newer that has MODULE? A shim may exist and not start.
    "$1" -c "import sys, $2; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
    for name; do
        if suits "$name" ensurepip; then echo "$name" && return; fi
    done
    for name; do
        if suits "$name" sys; then
            package=$("$name" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
            fail "$name cannot make a .venv, ensurepip is missing: install $package (Debian, Ubuntu) or set PYTHON=..."
        fi
    done
    fail "no Python 3.11 or newer runs under the name $(echo "$*" | sed 's/ /, /g'): install one or set PYTHON=/path/to/python3"
}

choose_gpu() { # the extra of pyproject.toml that suits the GPU's driver, or nothing; on stderr, why
    report=$(timeout 60 nvidia-smi 2>/dev/null) || report=
    cuda=$(printf '%s\n' "$report" | sed -n 's/.*CUDA[^:]*Version *: *\([0-9]*\)\..*/\1/p' | head -n 1)
    case $cuda in
        "") echo "No NVIDIA GPU answers (nvidia-smi): without CuPy, trials train on the CPU." >&2 ;;
        [0-9] | 1[01]) echo "The NVIDIA driver stops at CUDA $cuda, CuPy needs 12: trials train on the CPU." >&2 ;;
        12) echo "NVIDIA GPU, driver for CUDA 12: with cupy-cuda12x (2 GB more to fetch)." >&2 && echo gpu ;;
        *) echo "NVIDIA GPU, driver for CUDA $cuda: with cupy-cuda13x (2 GB more to fetch)." >&2 && echo gpu13 ;;
    esac
}

finished() {
    [ -x .venv/bin/python ] && [ ! -e .venv/unfinished ] && [ "$(cat "$log-$1" 2>/dev/null)" = "$inputs" ]
}

wait_for_others() { # one installation at a time: the lock is on pyproject.toml, and ends with this shell and its children
    exec 9<pyproject.toml
    "$python" - <<'END'
import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another installation is under way: waiting for it.", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
END
}

install() {
    if [ -e .venv/unfinished ] || ! suits .venv/bin/python pip; then
        rm -rf .venv
        mkdir .venv
    fi
    touch .venv/unfinished
    rm -f "$log"-*
    [ -e .venv/bin/python ] || "$python" -m venv .venv
    echo "Installing into .venv with $(.venv/bin/python --version) and constraints.txt: 1 to 5 minutes the first time, 1 GB."
    gpu=$(choose_gpu)
    extras=$(echo "$1 $gpu" | sed 's/runtime//; s/^ *//; s/ *$//; s/ /,/')
    .venv/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e ".${extras:+[$extras]}" ||
        fail "pip could not install the project (its reason is above); the same command tries again from nothing"
    echo "$gpu" >.venv/gpu
    for each in runtime "$1"; do echo "$inputs" >"$log-$each"; done
    rm .venv/unfinished
}
