"""Compiled tasks, and running one on several cores.

numba's own threading layers either die when two threads enter them at once (and autograd's backward runs in threads of
its own) or bring a second pool of threads beside torch's, whose waiting threads then hold the cores. So a task runs in
the OpenMP runtime that torch runs in: libgomp, which any thread may enter, whose entry point takes a plain function
pointer. Where there is no libgomp, a task runs in one thread.
"""

import ctypes
import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite.binding
import numpy as np
from numba import cfunc, njit, types

from formats.kernel.caching import kept
from formats.kernel.words import Words, WordsType

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


def _zero() -> int:
    return 0


def _one() -> int:
    return 1


_held: list[Any] = []
"""Compiled functions whose addresses are in use."""


@cache
def _runtime() -> Any:
    """GOMP_parallel, or None; names the two functions by which a task asks for its share of the work."""
    library = _libgomp()
    if library is None:
        _held.extend(cfunc(types.int32())(function) for function in (_zero, _one))
        number, count = (compiled.address for compiled in _held)
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


@njit(nogil=True, inline="always")
def share(count):
    """The first and the last, exclusive, of `count` things that are this thread's to do."""
    number, threads = np.int64(thread_number()), np.int64(thread_count())
    return count * number // threads, count * (number + 1) // threads


@njit(nogil=True, inline="always")
def share_of_multiples(count, multiple):
    """The same, where no share but the last ends within a multiple of so many things."""
    number, threads = np.int64(thread_number()), np.int64(thread_count())
    first, last = share(count)
    return first // multiple * multiple, count if number + 1 == threads else last // multiple * multiple


_compiling = threading.Lock()


def _stamp(folder: Path) -> str:
    """A digest that changes with any of a folder's modules."""
    files = [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(folder.glob("*.py"))]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


_SOURCES = _stamp(Path(__file__).parent)


class Task:
    """A function of words; compiled, or read from numba's cache, when its address is first asked for."""

    def __init__(self, function: Callable[[Any], None], words: WordsType, name: str) -> None:
        # numba's cache notices a change of the file that a function stands in, and not of those that it calls into. Its
        # files have the function's name: so that is made to tell all that tasks are compiled from.
        name = f"{name}_{_SOURCES}"
        code = function.__code__.replace(co_name=name, co_qualname=name)
        self._function, self._words = FunctionType(code, function.__globals__), words
        self._compiled: Any = None

    @property
    def address(self) -> int:
        """Where the compiled function begins."""
        if self._compiled is None:
            with _compiling:
                if self._compiled is None:
                    self._compiled = kept(lambda keep: cfunc(types.void(self._words), cache=keep)(self._function))
        return int(self._compiled.address)


def task(words: Words) -> Callable[[Callable[[Any], None]], Task]:
    """Make a task of a function of these words."""
    return lambda function: Task(function, words.type_for(), function.__name__)


def task_for_each_size(words: Words) -> Callable[[Callable[[Any], None]], dict[int, Task]]:
    """Make a task of a function of these words for each size of number, by its bytes."""
    return lambda function: {
        size: Task(function, words.type_for(size), f"{function.__name__}{size}") for size in words.sizes
    }


def threads_for(elements: int) -> int:
    """How many threads so many elements are worth, of those that there are."""
    count = elements // MIN_ELEMENTS_PER_THREAD
    if count > 1:
        count = min(count, available())
    return 1 if count <= 1 or _alone or _runtime() is None else count


def run(task: Task, words: bytes, elements: int) -> None:
    """Run a task on as many threads as `elements` are worth."""
    run_on(task, words, threads_for(elements))


def run_on(task: Task, words: bytes, count: int) -> None:
    """Run a task on at most so many threads, a number that `threads_for` gave."""
    if count == 1:
        # One thread outside any OpenMP region: number 0 of 1.
        _callable(task)(words)
    else:
        _runtime()(task.address, words, count, 0)


@cache
def _callable(task: Task) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(task.address)
