"""How far the same angle repeats itself: the same format on the same images, with sums in another order.

    python benchmarks/repeatability.py resnet20 transformer
    python benchmarks/repeatability.py WEIGHTS.pt IMAGES.zip     the network of benchmarks/cifar10_resnet20.py

The forward and backward pass are made contiguous and with channels last, with oneDNN and without, by one thread and by
two. They differ in the last bits of float32; rounding to few bits makes much of that on some examples. Of the mean over
the first n mini-batches of 128, for n = 1, 2, 4, ...: by how much orders differ (their standard deviation over their
mean, each divided by the mean of all orders), for each effect, as the root mean square over formats.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from cifar10_resnet20 import cifar10_resnet20

import formats
from predictor.effects import DEFAULT_EFFECTS
from predictor.gradient.angle import degrees, layer_sums
from predictor.gradient.gradients import Gradients
from workloads import Workload, load

FORMATS = ("FP134", "FP143", "INT8")
BATCH, MOST = 128, 16


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


ORDERS = {
    "contiguous": (torch.contiguous_format, nullcontext),
    "channels last": (torch.channels_last, nullcontext),
    "without oneDNN": (torch.contiguous_format, lambda: torch.backends.mkldnn.flags(enabled=False)),
    "two threads": (torch.contiguous_format, lambda: threads(2)),
}


def laid_out(workload: Workload, batch: Sequence[torch.Tensor], memory: torch.memory_format) -> list[torch.Tensor]:
    """The network and a mini-batch in a memory format, where it has one."""
    workload.model.to(memory_format=memory)
    return [x.contiguous(memory_format=memory) if x.ndim == 4 else x for x in batch]


def angles(workload: Workload, batches: Sequence[Sequence[torch.Tensor]]) -> np.ndarray:
    """Degrees: (orders, formats, effects, mini-batches)."""
    found = np.empty((len(ORDERS), len(FORMATS), len(DEFAULT_EFFECTS), len(batches)))
    for number, batch in enumerate(batches):
        for order, (memory, inside) in enumerate(ORDERS.values()):
            with inside(), Gradients(workload, laid_out(workload, batch, memory)) as gradients:
                for place, name in enumerate(FORMATS):
                    for q in gradients.quantized(formats.get(name), DEFAULT_EFFECTS):
                        effect = DEFAULT_EFFECTS.index(q.effect)
                        found[order, place, effect, number] = degrees(layer_sums(q.gradients, q.reference).sum(0))
    return found


def main(networks: Sequence[str]) -> None:
    """Print it."""
    torch.set_num_threads(1)
    if networks and networks[0].endswith(".pt"):
        weights, images = map(Path, networks)
        chosen = {"resnet20 of CIFAR-10": cifar10_resnet20(weights, images, MOST, BATCH)}
    else:
        chosen = {name: load(name) for name in networks}
    print(f"orders: {', '.join(ORDERS)}; formats: {', '.join(FORMATS)}; mini-batches of {BATCH}")
    for name, workload in chosen.items():
        batches = workload.minibatches(BATCH if callable(workload.batches) else None)[:MOST]
        found = angles(workload, batches)
        print(f"{name}: standard deviation over orders, of the mean over the first n mini-batches")
        print("   n  " + "".join(f"{effect:>8}" for effect in DEFAULT_EFFECTS) + "   largest")
        for count in [2**k for k in range(MOST.bit_length()) if 2**k <= len(batches)]:
            mean = found[..., :count].mean(-1)
            off = mean.std(0, ddof=1) / mean.mean(0)
            print(
                f"{count:4}  " + "".join(f"{x:8.3%}" for x in np.sqrt((off**2).mean(0))) + f"{off.max():10.3%}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
