"""Is what hysteresis does in benchmarks/hysteresis.py its own doing, or a fault? Two runs whose outcome is known
beforehand.

    python benchmarks/hysteresis_check.py

Weights in FP169 have steps so fine that a whole one is next to nothing: hysteresis and nearest must end alike.
Pretrained weights at a small, constant learning rate hardly move, so that most flips are those to and fro: hysteresis
must remove most of them. ResNet-20 on the bundled images, mini-batches of 128, all else as in hysteresis.py. Prints
mean loss (of the last epoch; of all but the first ten steps) and flips in a step.
"""

from dataclasses import replace

import torch
import typer

from training import train
from workloads import load


def main() -> None:
    """Train and print."""
    torch.set_num_threads(1)
    workload = load("resnet20")
    assert callable(workload.train)
    workload = replace(workload, train=workload.train(128), test=None)
    for rounding in ("hysteresis", "nearest"):
        found = train(workload, weight="FP169", weight_rounding=rounding, epochs=2, rate=0.1)
        print(f"from scratch, FP169 weights, 2 epochs: {rounding:10} loss {found.epochs.loss.iloc[-1]:.4f}", flush=True)
    for weight in ("FP134", "LOG4"):
        for rounding in ("hysteresis", "nearest"):
            found = train(
                workload,
                weight=weight,
                weight_rounding=rounding,
                epochs=1,
                rate=0.001,
                schedule="constant",
                start="pretrained",
            )
            late = found.steps.iloc[10:]
            print(
                f"pretrained, rate 0.001, {weight} weights: {rounding:10} loss {late.loss.mean():.4f}, flips "
                f"{late.flip_rate.mean():.6f}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
