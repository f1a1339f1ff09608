"""Published training methods, end to end, on scikit-learn's digits with a network of three convolutions
(docs/definitions/methods.md section 10).

python benchmarks/methods.py: about three minutes of one core for each seed; raw output in benchmarks/methods.txt.
Prints the test accuracy in percent beside the least that is expected, and ends with code 1 where one is lower. Full
precision is trained for 15 epochs from scratch, so are Octo, DAI8 and UI8; LSQ and LSQ+ go on from it for 10 at a tenth
of the rate; SLB starts from scratch for 50, with a temperature that grows 38-fold, as at the default factor, of which
nothing is expected, and a thousandfold. Convolutions are quantized, the linear layer is not; LSQ's first layer has 8
bits.
"""

from dataclasses import replace

import torch
import typer

from tests.training import digits
from training import train
from training.methods import LSQ, SLB, DistributionAdaptiveInt8, LSQPlus, Octo, UnifiedInt8

SEEDS = 0, 1


def main() -> None:
    """Run everything and print the table."""
    torch.set_num_threads(1)
    low = 0

    def show(name: str, seed: int, accuracy: float, least: float | None) -> None:
        nonlocal low
        short = least is not None and 100 * accuracy < least
        low += short
        expected = "" if least is None else f"  at least {least:5.1f}"
        print(f"{name:24} seed {seed}  {100 * accuracy:5.1f}{expected}{'  LOW' if short else ''}", flush=True)

    for seed in SEEDS:
        starts = {}
        for smooth, name, least in ((False, "float32, ReLU", 98.1), (True, "float32, SiLU", 97.9)):
            found = train(digits.workload(smooth, seed), **digits.SCRATCH, **digits.FULL, seed=seed)
            starts[smooth] = found.model
            show(name, seed, found.metric, least)
            if not smooth:
                full = found.metric
        for name, method in (
            ("Octo", Octo()),
            ("DAI8", DistributionAdaptiveInt8(include_linear=False)),
            ("DAI8, linear too", DistributionAdaptiveInt8()),
            ("UI8", UnifiedInt8(include_linear=False)),
            ("UI8, linear too", UnifiedInt8()),
        ):
            found = train(digits.workload(False, seed), method=method, **digits.SCRATCH, seed=seed)
            # Within a point of full precision.
            show(name, seed, found.metric, min(98.1, 100 * full - 1))
        for smooth, name, method, least in (
            (False, "LSQ W4A4", LSQ(include_linear=False), 99.0),
            (False, "LSQ W3A3", LSQ(weight_bits=3, activation_bits=3, include_linear=False), 98.5),
            (False, "LSQ W2A2", LSQ(weight_bits=2, activation_bits=2, include_linear=False), 97.5),
            (True, "LSQ+ W4A4, SiLU", LSQPlus(include_linear=False), 98.1),
            (True, "LSQ+ W2A2, SiLU", LSQPlus(weight_bits=2, activation_bits=2, include_linear=False), 97.1),
            (True, "LSQ signed W2A2, SiLU", LSQ(2, 2, activations="signed", include_linear=False), 93.5),
        ):
            workload = replace(digits.workload(smooth, seed), model=starts[smooth])
            show(name, seed, train(workload, method=method, **digits.FINE, seed=seed).metric, least)
        for bits in (1, 2):
            for growth in (1.2**20, 1000.0):
                options = {**digits.SCRATCH, "epochs": 50}
                method = SLB(bits=bits, bn_calibration=True, t_factor=growth ** (1 / 20))
                found = train(digits.workload(False, seed), method=method, **options, seed=seed)
                show(f"SLB W{bits}, {growth:.0f}-fold", seed, found.metric, 98.0 if growth == 1000 else None)
    raise typer.Exit(low > 0)


if __name__ == "__main__":
    typer.run(main)
