"""The loops of quantization with a learned step and offset (`training.quantizers.learned`)."""

import numpy as np
from numba import float32, float64, njit

from formats.kernel.threads import share, task, thread_number
from formats.kernel.words import NUMBER, Words


@njit(nogil=True, error_model="numpy")
def _forward(x, out, step, offset, low, high):
    for i in range(x.size):
        whole = np.rint(np.float32(np.float32(x[i] - offset) / step))
        whole = low if whole < low else whole
        whole = high if whole > high else whole
        out[i] = np.float32(np.float32(whole * step) + offset)


@njit(nogil=True, error_model="numpy", fastmath={"reassoc"})
def _backward(x, gradient, out, step, offset, low, high):
    """Gradients of x into out; those of step and offset, before their factor."""
    for_step, for_offset = 0.0, 0.0
    for i in range(x.size):
        g = gradient[i]
        scaled = np.float32(np.float32(x[i] - offset) / step)
        residual = np.float32(np.rint(scaled) - scaled)
        residual = low if scaled <= low else residual
        residual = high if scaled >= high else residual
        inside = (scaled >= low) & (scaled <= high)
        for_step += np.float64(np.float32(g * residual))
        for_offset += np.float64(np.float32(0) if inside else g)
        out[i] = g if inside else np.float32(0)
    return for_step, for_offset


FORWARD = Words(elements=NUMBER, x=float32[::1], out=float32[::1], numbers=float32[::1])
"""numbers: step, offset, the grid's low and high end."""
BACKWARD = Words(
    elements=NUMBER, x=float32[::1], out=float32[::1], numbers=float32[::1], gradient=float32[::1], sums=float64[::1]
)
"""sums: those for step and offset, of each thread."""


@task(FORWARD)
def forward_task(w):
    x, out, numbers = w.x, w.out, w.numbers
    first, last = share(w.elements)
    _forward(x[first:last], out[first:last], numbers[0], numbers[1], numbers[2], numbers[3])


@task(BACKWARD)
def backward_task(w):
    x, gradient, out, numbers = w.x, w.gradient, w.out, w.numbers
    first, last = share(w.elements)
    for_step, for_offset = _backward(
        x[first:last], gradient[first:last], out[first:last], numbers[0], numbers[1], numbers[2], numbers[3]
    )
    number = thread_number()
    w.sums[2 * number], w.sums[2 * number + 1] = for_step, for_offset
