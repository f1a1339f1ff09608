"""Entries of a store, and a store with some in it."""

import numpy as np

from formats.kernel import BUCKETS
from predictor.effects import Effect
from predictor.measuring.store import Store, Stored
from predictor.measuring.validity import Context

CONTEXT = Context("w", "n", "l", "p", "t", "d", "m", 1)


def stored(value, parameters=("a", "b")):
    """An entry whose sums, sketch and loss are all one number."""
    sums = np.full((len(parameters), 3), value, np.float64)
    return Stored(parameters, sums, np.full((2, BUCKETS), value, np.float32), float(value), 0.25)


def filled(path, rows=400):
    """A file with so many entries."""
    with Store.open(path) as store:
        for number in range(rows // 50):
            entries = [(f"format{number * 50 + i}", Effect.E, stored(i, ("a",) * 20)) for i in range(50)]
            store.put(CONTEXT, "b", entries)
