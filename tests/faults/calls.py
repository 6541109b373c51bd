"""The N-th write, sync or rename in the project's folder fails: a small library comes between the program and libc."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from tests.faults import checks, project
from tests.faults.checks import Undisturbed

LIBRARY = "FAULTS_LIBRARY"
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long left = -1, *count;
static int number;

/* From now on in this process the n-th call (from 1) below folder fails; count is given how many there were. */
void faults_arm(const char *below, long n, int error, long *counted) {
    strncpy(folder, below, sizeof folder - 1);
    left = n, number = error, count = counted;
}

static int fails(const char *path) {
    if (!count || strncmp(path, folder, strlen(folder))) return 0;
    const char *name = strrchr(path, '/');
    if (!strncmp(name, "/.output", 8) || !strncmp(name, "/.errors", 8)) return 0;
    ++*count;
    if (left < 0 || --left) return 0;
    errno = number;
    return 1;
}

static int fails_at(int file) {
    char link[64], path[4096];
    if (!count) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return fails(path);
}

#define NEXT(type, name) \
    static type (*next)(); \
    if (!next) next = (type (*)()) dlsym(RTLD_NEXT, name);

ssize_t write(int f, const void *b, size_t n) {
    NEXT(ssize_t, "write");
    return fails_at(f) ? -1 : next(f, b, n);
}
ssize_t pwrite(int f, const void *b, size_t n, off_t o) {
    NEXT(ssize_t, "pwrite");
    return fails_at(f) ? -1 : next(f, b, n, o);
}
ssize_t pwrite64(int f, const void *b, size_t n, off_t o) {
    NEXT(ssize_t, "pwrite64");
    return fails_at(f) ? -1 : next(f, b, n, o);
}
int fsync(int f) {
    NEXT(int, "fsync");
    return fails_at(f) ? -1 : next(f);
}
int fdatasync(int f) {
    NEXT(int, "fdatasync");
    return fails_at(f) ? -1 : next(f);
}
int rename(const char *a, const char *b) {
    NEXT(int, "rename");
    return fails(b) ? -1 : next(a, b);
}
int renameat(int d, const char *a, int e, const char *b) {
    NEXT(int, "renameat");
    return fails(b) ? -1 : next(d, a, e, b);
}
"""


def load_library(folder: Path) -> bool:
    """Become this command again with the library loaded. Returns whether it is; without a compiler it cannot be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if LIBRARY in os.environ or compiler is None:
        return LIBRARY in os.environ
    source, library = folder / "faults.c", folder / "faults.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], check=True)
    os.environ |= {LIBRARY: str(library), "LD_PRELOAD": str(library)}
    return os.execv(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]])


_counted = ctypes.c_long(0)  # the library writes to it


def arm(folder: Path, nth: int, error: int) -> ctypes.c_long:
    """Let the n-th call fail in this process; returns how many there were, which grows."""
    library = ctypes.CDLL(os.environ[LIBRARY])
    library.faults_arm(str(folder).encode(), ctypes.c_long(nth), error, ctypes.byref(_counted))
    return _counted


def count(folder: Path) -> int:
    """How many calls an undisturbed sweep in this project makes."""

    def counting(arguments: object) -> int:
        counted = arm(folder, -1, 0)
        status = project.sweep_main([*project.RUN])
        (folder / "count").write_text(str(counted.value))
        return status

    command = project.Command(folder, [], counting)
    checks.require(command.wait() == 0, command.errors)
    return int((folder / "count").read_text())


def fault(folder: Path, undisturbed: Undisturbed, rng: random.Random, nth: int) -> tuple[int, int]:
    """Let the n-th call fail, and go on without that."""
    error = rng.choice(ERRORS)
    first = project.run(folder, *project.RUN, prepare=lambda: arm(folder, nth, error))
    checks.quiet(first)
    checks.require(first.status in (0, 2), "exit status", first.status, first.errors)
    if "damaged" in first.errors:
        project.run(folder, "doctor", "some", "--fix")
    return 1, checks.epochs(first) + checks.finished(folder, undisturbed) - undisturbed.epochs
