"""Digests of one ranking and of two training steps: equal digests mean equal bits, between two versions of this project
or two machines' runs.

Run it in each version with the same number of threads:

    OMP_NUM_THREADS=1 python benchmarks/same_bits.py
"""

import hashlib
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
import torch

from search import rank
from training import train
from workloads import load

MINIBATCHES = 3
BATCH_SIZE = 64
STEPS = 2
LATER = ("projection", "bias", "bias_low", "bias_high")
"""Columns that earlier versions do not have."""


def digest_of_table(table: pd.DataFrame) -> str:
    """SHA-256 of every column that all versions have but the seconds, floats by their bits."""
    hasher = hashlib.sha256()
    for name in table.columns.drop(["seconds", *LATER], errors="ignore"):
        column = table[name]
        exact = column.to_numpy(np.float64).tobytes() if column.dtype.kind == "f" else repr(column.tolist()).encode()
        hasher.update(name.encode() + exact)
    return hasher.hexdigest()


def digest_of_network(network: torch.nn.Module) -> str:
    """SHA-256 of parameters and buffers."""
    hasher = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        hasher.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return hasher.hexdigest()


def main() -> None:
    """Rank 498 formats on the bundled ResNet-20, and train it for two steps with each rounding of weights."""
    # An earlier tree knows the current scale alone.
    scheme: dict[str, Any] = {"scheme": "current"} if "scheme" in signature(rank).parameters else {}
    found = rank(load("resnet20"), minibatches=MINIBATCHES, batch_size=BATCH_SIZE, by="AE", **scheme)
    print(
        f"ranking of {len(found.table)} formats, {MINIBATCHES} mini-batches of {BATCH_SIZE}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"  first: {', '.join(found.table['name'][:5])}")
    print(f"  {digest_of_table(found.table)}")
    for rounding in ("nearest", "stochastic", "hysteresis"):
        workload = load("resnet20")
        few = replace(workload, train=list(workload.minibatches(BATCH_SIZE)[:STEPS]), test=None)
        result = train(
            few, activation="FP134", error="FP134", weight="FP134", weight_rounding=rounding, epochs=1, rate=0.05
        )
        print(f"{STEPS} training steps, weights {rounding}, losses {', '.join(repr(x) for x in result.steps['loss'])}")
        print(f"  {digest_of_network(result.model)}")


if __name__ == "__main__":
    main()
