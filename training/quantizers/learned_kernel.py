"""The loops of quantization with a learned step and offset (`training.quantizers.learned`)."""

import numpy as np
from numba import carray, njit

from formats.kernel.bits import i8
from formats.kernel.memory import pointer_double, pointer_float
from formats.kernel.task import ANY, Task
from formats.kernel.threads import thread_count, thread_number


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


@njit(nogil=True, inline="always")
def _share(size):
    number, count = i8(thread_number()), i8(thread_count())
    return size * number // count, size * (number + 1) // count


@Task
def forward_task(pointer):
    w = carray(pointer, (32,))
    x, out, numbers = (
        carray(pointer_float(w[1]), (ANY,)),
        carray(pointer_float(w[2]), (ANY,)),
        carray(pointer_float(w[3]), (4,)),
    )
    first, last = _share(w[0])
    _forward(x[first:last], out[first:last], numbers[0], numbers[1], numbers[2], numbers[3])


@Task
def backward_task(pointer):
    w = carray(pointer, (32,))
    x, out, numbers = (
        carray(pointer_float(w[1]), (ANY,)),
        carray(pointer_float(w[2]), (ANY,)),
        carray(pointer_float(w[3]), (4,)),
    )
    gradient, sums = carray(pointer_float(w[4]), (ANY,)), carray(pointer_double(w[5]), (ANY,))
    first, last = _share(w[0])
    found = _backward(
        x[first:last], gradient[first:last], out[first:last], numbers[0], numbers[1], numbers[2], numbers[3]
    )
    number = i8(thread_number())
    sums[2 * number], sums[2 * number + 1] = found[0], found[1]
