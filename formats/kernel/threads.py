"""Running a compiled task on several cores.

numba's own threading layers either die when two threads enter them at once (and autograd's backward runs in threads of
its own) or bring a second pool of threads beside torch's, whose waiting threads then hold the cores. So a task runs in
the OpenMP runtime that torch runs in: libgomp, which any thread may enter, whose entry point takes a plain function
pointer. Where there is no libgomp, a task runs in one thread.
"""

import ctypes
import importlib.util
import os
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding
from numba import cfunc, types

MIN_ELEMENTS_PER_THREAD = 1 << 15


def _libgomp() -> ctypes.CDLL | None:
    """torch's own copy where torch is installed (loaded or not), else the system's."""
    paths: list[str] = []
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:
        home = Path(torch.origin).parent
        paths += [
            str(path) for folder in (home / "lib", home.parent / "torch.libs") for path in folder.glob("libgomp*.so*")
        ]
    for path in [*paths, "libgomp.so.1"]:
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    return None


@cfunc(types.int32())
def _zero() -> int:
    return 0


@cfunc(types.int32())
def _one() -> int:
    return 1


@cache
def _runtime() -> Any:
    """GOMP_parallel, or None; names the two functions by which a task asks for its share of the work."""
    library = _libgomp()
    if library is None:
        number, count = _zero.address, _one.address
        start = None
    else:
        number = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p).value
        count = ctypes.cast(library.omp_get_num_threads, ctypes.c_void_p).value
        start = library.GOMP_parallel
        start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        start.restype = None
    llvmlite.binding.add_symbol("formats_thread_number", number)
    llvmlite.binding.add_symbol("formats_thread_count", count)
    return start


_runtime()
thread_number = types.ExternalFunction("formats_thread_number", types.int32())
thread_count = types.ExternalFunction("formats_thread_count", types.int32())

# A forked child inherits a pool whose threads are gone; it works alone.
_alone = False


def _after_fork() -> None:
    global _alone
    _alone = True


os.register_at_fork(after_in_child=_after_fork)


def available() -> int:
    """Threads to use at most: torch's setting where torch is loaded, else OMP_NUM_THREADS, else the cores given to the
    process."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else len(os.sched_getaffinity(0))


def run(task: Any, words: list[int], elements: int) -> None:
    """Run `task` (a compiled function of a pointer to 64-bit words) on as many threads as `elements` are worth."""
    arguments = struct.pack(f"{len(words)}q", *words)
    start = _runtime()
    threads = elements // MIN_ELEMENTS_PER_THREAD
    if threads > 1:
        threads = min(threads, available())
    if start is None or threads <= 1 or _alone:
        # One thread outside any OpenMP region: number 0 of 1.
        _callable(task)(arguments)
    else:
        start(task.address, arguments, threads, 0)


@cache
def _callable(task: Any) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(task.address)
