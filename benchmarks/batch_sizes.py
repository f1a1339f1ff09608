"""Do two mini-batches of 32 tell more than one of 64? Every eighth format, the same examples in both.

    python benchmarks/batch_sizes.py resnet20 transformer > benchmarks/batch_sizes.txt

The angle of AE of 63 formats on 8 mini-batches of 64 and on the 16 of 32 that they are made of. For each mini-batch of
64 its angles order the formats, and so do the means over its two halves; both orders are held against the mean over
all other mini-batches, of 64 and of 32 alike. Time is that of the gradients, in one run.
"""

import sys
import time

import numpy as np
import torch
from scipy import stats

import formats
from predictor.effects import Effect
from predictor.measuring.session import Measuring
from predictor.statistics import interval
from workloads import load

LARGE, SMALL, EVERY = 64, 32, 8
COUNT = 8
"""Mini-batches of LARGE."""


def angles(network: str, size: int, count: int) -> tuple[np.ndarray, float]:
    """Of AE, (formats, mini-batches), and the seconds that they took."""
    workload = load(network)
    batches = workload.minibatches(size)[:count]
    chosen = list(formats.catalogue())[::EVERY]
    found, began = np.empty((len(chosen), count)), time.monotonic()
    for each in Measuring(workload).measured(chosen, batches, (Effect.AE,)):
        found[each.format, each.minibatch] = each.angle()
    return found, time.monotonic() - began


def main() -> None:
    """Both sizes on each network."""
    torch.set_num_threads(1)
    for network in sys.argv[1:]:
        small, small_seconds = angles(network, SMALL, COUNT * LARGE // SMALL)
        large, large_seconds = angles(network, LARGE, COUNT)
        halves = small.reshape(len(small), COUNT, -1).mean(2)
        scores = np.empty((2, 2, COUNT))  # of halves and wholes, against the truth of 32 and of 64
        for batch in range(COUNT):
            others = [other for other in range(COUNT) if other != batch]
            for row, guess in enumerate((halves, large)):
                for column, truth in enumerate((halves, large)):
                    scores[row, column, batch] = stats.spearmanr(guess[:, batch], truth[:, others].mean(1))[0]
        spread = [(of.std(1, ddof=1) / of.mean(1)).mean() for of in (halves, large)]
        print(
            f"{network}: {len(small)} formats; angles of 32 are {np.median(halves.mean(1) / large.mean(1)):.3f} times "
            f"those of 64, their orders agree to {stats.spearmanr(halves.mean(1), large.mean(1))[0]:.4f}"
        )
        print(
            f"  spread over mini-batches, of the mean: two of 32 {spread[0]:.1%}, one of 64 {spread[1]:.1%}; "
            f"time {small_seconds / large_seconds:.2f} times that of 64"
        )
        for column, of in enumerate(("32", "64")):
            mean, low, high = interval(scores[0, column] - scores[1, column])
            print(
                f"  Spearman with the others of {of}: two of 32 {scores[0, column].mean():.4f}, "
                f"one of 64 {scores[1, column].mean():.4f}; difference {mean:+.4f} [{low:+.4f}, {high:+.4f}]"
            )


if __name__ == "__main__":
    main()
