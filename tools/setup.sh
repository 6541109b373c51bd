#!/bin/sh
# Install the project into .venv, unless that is done: tools/setup.sh runtime | dev | test-all | gpu
#   runtime   what a sweep needs, with CuPy where there is an NVIDIA GPU
#   dev       that, and the tools of `make test` and `make check`
#   test-all  that, and what single slow tests need: PyTorch, Playwright, psycopg, and programs of the system
#   gpu       runtime, after looking again for a GPU
# $PYTHON names the Python to make .venv with. .venv/unfinished exists while packages are being written: found at the
# start, it tells of an interrupted call, after which no file in .venv can be trusted, and .venv is made anew.
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

suits() { # COMMAND MODULE: is COMMAND a Python 3.11 or newer with MODULE? A name may be a shim that fails: it is run.
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
            fail "$name cannot make .venv, it lacks ensurepip: install $package (Debian, Ubuntu) or set PYTHON=..."
        fi
    done
    fail "no Python 3.11 or newer: tried $*; install one or set PYTHON=/path/to/python3"
}

choose_gpu() { # the extra of pyproject.toml that suits the NVIDIA driver, or nothing; the reason goes to stderr
    report=$(timeout 60 nvidia-smi 2>/dev/null) || report=
    cuda=$(printf '%s\n' "$report" | sed -n 's/.*CUDA[^:]*Version *: *\([0-9]*\)\..*/\1/p' | head -n 1)
    case $cuda in
        "") echo "No NVIDIA GPU answers nvidia-smi: trials will train on the CPU." >&2 ;;
        ? | 10 | 11) echo "CuPy needs CUDA 12, the NVIDIA driver has $cuda: trials will train on the CPU." >&2 ;;
        12) echo "NVIDIA GPU, CUDA 12: cupy-cuda12x belongs to the installation (2 GB to fetch)." >&2 && echo gpu ;;
        *) echo "NVIDIA GPU, CUDA $cuda: cupy-cuda13x belongs to the installation (2 GB to fetch)." >&2 && echo gpu13 ;;
    esac
}

has() { # NAME...: is one of these programs here?
    for name; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

find_programs() { # of the system, which single tests start: root installs what lacks, everybody else is told how to
    lacking=
    has chromium chromium-browser google-chrome || lacking="$lacking chromium"
    has initdb /usr/lib/postgresql/*/bin/initdb || lacking="$lacking postgresql"
    has g++ || lacking="$lacking g++"
    if [ -z "$lacking" ]; then return 0; fi
    # shellcheck disable=SC2086 # these are words
    if [ "$(id -u)" = 0 ] && has apt-get &&
        timeout 180 apt-get install -y -qq --no-install-recommends $lacking >/dev/null 2>&1; then return 0; fi
    echo "Tests that need them are skipped. To install what lacks (Debian, Ubuntu): sudo apt-get install$lacking" >&2
}

finished() {
    [ -x .venv/bin/python ] && [ "$(cat ".venv/installed-$what" 2>/dev/null)" = "$state" ]
}

wait_for_others() { # the lock goes with the open file: it ends when this shell and all that it started have ended
    exec 9<>pyproject.toml
    "$python" - <<'END'
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another installation is going on: waiting for it to end.", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
END
}

install() {
    before=$(cat .venv/gpu 2>/dev/null || echo "$gpu") # two versions of CuPy must not meet in one .venv
    if [ -e .venv/unfinished ] || [ "$gpu" != "$before" ] || ! suits .venv/bin/python pip; then
        rm -rf .venv && mkdir .venv && touch .venv/unfinished
        "$python" -m venv .venv
    fi
    touch .venv/unfinished
    rm -f .venv/installed-*
    echo "Installing into .venv ($(.venv/bin/python --version), versions of constraints.txt): 1 GB, some minutes." >&2
    # shellcheck disable=SC2086 # either may be empty, and then is no word
    extras=$(echo $wanted $gpu | tr ' ' ,)
    "$python" tools/progress.py $$ .venv/pip.log .venv/lib/python*/site-packages 9>&- &
    progress=$! failed=
    .venv/bin/python -m pip --disable-pip-version-check install --progress-bar off -c constraints.txt \
        -e ".${extras:+[$extras]}" >.venv/pip.log 2>&1 || failed=yes
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
    if [ -t 2 ]; then printf '\r%60s\r' "" >&2; fi
    if [ "$failed" ]; then
        sed -n '/^ *[Ee][Rr][Rr][Oo][Rr]/,$p' .venv/pip.log >&2
        fail "pip could not install the project, for the reason above; the same command tries again from nothing"
    fi
    done="runtime $what"
    if [ "$what" = test-all ]; then add_pytorch && done="runtime dev test-all" || done="runtime dev"; fi
    rm -f .venv/pip.log
    echo "Installed." >&2
    echo "$gpu" >.venv/gpu
    for each in $done; do echo "$state" >".venv/installed-$each"; done
    rm .venv/unfinished
}

add_pytorch() { # its CPU build, since the usual one is too large
    .venv/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt "torch==2.13.0+cpu" \
        >.venv/pip.log 2>&1 && return 0
    echo "pip is offered no CPU build of PyTorch 2.13.0: tests that compare with it are skipped" \
        "until '.venv/bin/python -m pip install torch' has installed one." >&2
    return 1
}

case $1 in
    gpu) what=runtime gpu=$(choose_gpu) ;;
    *) what=$1 gpu=$(cat .venv/gpu 2>/dev/null || choose_gpu) ;;
esac
case $what in
    runtime) wanted= ;;
    dev) wanted=dev ;;
    test-all) wanted="dev browser postgres" && find_programs ;;
esac
state=$(cksum pyproject.toml constraints.txt && echo "extra: $gpu")
finished && exit
python=$(find_python)
wait_for_others
finished || install
