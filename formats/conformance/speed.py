"""Timing the emulator against a copy and against other libraries, in one run."""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from formats.kinds.profile_format import ProfileFormat
from formats.lookup import get
from formats.scale import Granularity


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` runs after one that is not counted."""
    run()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


class Timed(NamedTuple):
    """What to time. bytes: an element, that must move. most_threads: that it uses; 0: any number."""

    name: str
    function: Callable[[], object]
    bytes: float
    most_threads: int = 0


def _ours(format: ProfileFormat, x: torch.Tensor, out: torch.Tensor) -> list[Timed]:
    """Everything the emulator does with an array; into memory that is there already, as the copy does, except where it
    says otherwise."""
    name, array, result = format.name, x.numpy(), out.numpy()
    top = int(format.find_top(x))
    width = math.gcd(len(array), 4096)
    rows, rows_out = array.reshape(-1, width), result.reshape(-1, width)
    block: Any
    tapered: Any
    codebook: Any
    block, tapered, codebook = get(f"{name}/block32"), get("T8.5x3@2"), get("NF4")
    encoded = format.encode(array, top=top).codes
    codes = np.empty_like(encoded)
    return [
        Timed(f"{name}, T known, torch", lambda: format.round(x, top=top, out=out), 8),
        Timed(f"{name}, T known, numpy", lambda: format.round(array, top=top, out=result), 8),
        Timed("T8.5x3@2, T known, numpy", lambda: tapered.round(array, top=top, out=result), 8),
        Timed(f"{name}, T from data", lambda: format.round(x, out=out), 12),
        Timed(f"{name}, T from data, new result", lambda: format.round(x), 12),
        Timed(
            f"{name}, stochastic", lambda: format.round(array, top=top, rounding="stochastic", seed=1, out=result), 8
        ),
        Timed(f"{name}, blocks of 32", lambda: block.round(rows, out=rows_out), 8),
        Timed(f"{name}, encode, T known", lambda: format.encode(array, top=top, out=codes), 5),
        Timed(f"{name}, encode, T from data", lambda: format.encode(array, out=codes), 9),
        Timed(f"{name}, encode, T known, new result", lambda: format.encode(array, top=top), 5),
        Timed(f"{name}, decode", lambda: format.decode(encoded, top, out=result), 5),
        Timed("NF4 (codebook), T known", lambda: codebook.round(array, top=top, out=result), 8),
    ]


def _peers(x: torch.Tensor) -> list[Timed]:
    """Other libraries' rounding to 8 bits; those that are not installed are left out."""
    array = x.numpy()
    found: list[Timed] = [
        Timed("torch float8_e4m3fn there and back", lambda: x.to(torch.float8_e4m3fn).to(torch.float32), 10)
    ]
    try:
        import ml_dtypes
    except ImportError:
        pass
    else:
        ml = ml_dtypes.float8_e4m3fn
        found.append(
            Timed("ml_dtypes float8_e4m3fn there and back", lambda: array.astype(ml).astype(np.float32), 10, 1)
        )
    try:
        from qtorch.quant import float_quantize
    except (ImportError, OSError, RuntimeError):
        pass
    else:
        found.append(Timed("qtorch float_quantize(4, 3)", lambda: float_quantize(x, 4, 3, "nearest"), 8))
    return found


def run(elements: int, repeats: int, name: str) -> list[list[str]]:
    """Rows of text: what, threads, nanoseconds an element, times the copy at as many threads, and the bytes moved a
    second."""
    if elements < 1 or repeats < 1:
        raise ValueError(f"{elements} elements and {repeats} repeats: at least 1 of each is needed")
    format = get(name)
    if not isinstance(format, ProfileFormat) or format.granularity is not Granularity.TENSOR:
        raise ValueError(f"format {format.name}: one with a profile and a scale for a whole tensor is timed")
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(elements, dtype=np.float32))
    out = torch.empty_like(x)
    before, rows = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            copy = 0.0
            base = Timed("torch copy_", partial(out.copy_, x), 8)
            for what, function, moved, most in (base, *_ours(format, x, out), *_peers(x)):
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
