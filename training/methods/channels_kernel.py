"""The loops of `channels`."""

import numpy as np

from formats.kernel.caching import kept_njit

# Two memory orders, (outer, channels, inner) with inner 1 or channels 1 at a time, so that the innermost loop runs
# along memory.


@kept_njit(fastmath={"reassoc", "contract"})
def moments_across(x, largest, total, square):
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            value = np.float64(x[row, c])
            largest[c] = max(largest[c], abs(x[row, c]))
            total[c] += value
            square[c] += value * value


@kept_njit()
def beyond_across(x, deviation, count):
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            count[c] += np.int32(abs(x[row, c]) > deviation[c])


@kept_njit(fastmath={"reassoc", "contract"})
def moments_along(x, largest, total, square):
    for outer in range(x.shape[0]):
        for c in range(x.shape[1]):
            most, sums, squares = np.float32(0), 0.0, 0.0
            for i in range(x.shape[2]):
                value = np.float64(x[outer, c, i])
                most = max(most, abs(x[outer, c, i]))
                sums += value
                squares += value * value
            largest[c] = max(largest[c], most)
            total[c] += sums
            square[c] += squares


@kept_njit()
def beyond_along(x, deviation, count):
    for outer in range(x.shape[0]):
        for c in range(x.shape[1]):
            found = np.int32(0)
            for i in range(x.shape[2]):
                found += np.int32(abs(x[outer, c, i]) > deviation[c])
            count[c] += found
