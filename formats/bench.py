"""Timing the emulator against a copy and against other libraries, in one run."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from formats.format import ProfileFormat
from formats.names import get


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` runs after one that is not counted."""
    run()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _subjects(format: ProfileFormat, x: torch.Tensor, out: torch.Tensor) -> list[tuple[str, Callable[[], object], float, int]]:
    """What to time: name, function, bytes an element that must move, most threads it uses (0: any)."""
    array = x.numpy()
    top = int(format.find_top(x))
    subjects: list[tuple[str, Callable[[], object], float, int]] = [
        ("torch copy_", lambda: out.copy_(x), 8, 0),
        (f"formats {format.name}, T known", lambda: format.round(x, top=top, out=out), 8, 0),
        (f"formats {format.name}, T from data", lambda: format.round(x, out=out), 12, 0),
        (f"formats {format.name}, T from data, new result", lambda: format.round(x), 12, 0),
        ("torch float8_e4m3fn there and back", lambda: x.to(torch.float8_e4m3fn).to(torch.float32), 10, 0),
    ]
    try:
        import ml_dtypes
    except ImportError:
        pass
    else:
        subjects.append(("ml_dtypes float8_e4m3fn there and back", lambda: array.astype(ml_dtypes.float8_e4m3fn).astype(np.float32), 10, 1))
    try:
        from qtorch.quant import float_quantize
    except (ImportError, OSError, RuntimeError):
        pass
    else:
        subjects.append(("qtorch float_quantize(4, 3)", lambda: float_quantize(x, 4, 3, "nearest"), 8, 0))
    return subjects


def run(elements: int, repeats: int, name: str) -> list[list[str]]:
    """Rows of text: what, threads, nanoseconds an element, times the copy at as many threads, and the bytes moved a second."""
    if elements < 1 or repeats < 1:
        raise ValueError(f"{elements} elements and {repeats} repeats: at least 1 of each is needed")
    format = get(name)
    if not isinstance(format, ProfileFormat):
        raise ValueError(f"{name} is not a format of this project")
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(elements, dtype=np.float32))
    out = torch.empty_like(x)
    before, rows = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            copy = 0.0
            for what, function, moved, most in _subjects(format, x, out):
                if most and threads > most:
                    continue
                seconds = median_seconds(function, repeats)
                copy = copy or seconds
                rows.append(
                    [
                        what,
                        str(threads),
                        f"{seconds / elements * 1e9:.3f}",
                        f"{seconds / copy:.2f}",
                        f"{moved * elements / seconds / 1e9:.1f}",
                    ]
                )
    finally:
        torch.set_num_threads(before)
    return rows
