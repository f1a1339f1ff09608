"""What the screen of a ranking sees, kept so that rankings can be replayed without a network (benchmarks/replay.py).

    python benchmarks/screen.py resnet20 --output benchmarks/screen_resnet20.npz
    python benchmarks/screen.py cifar10 --weights WEIGHTS.pt --images IMAGES.zip --output benchmarks/screen_cifar10.npz
    python benchmarks/screen.py transformer --scheme paper --output benchmarks/screen_transformer.npz

One full-precision pass over the first mini-batch of 64: the noise-to-signal ratio of all 498 formats on every tensor.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from exhaustive import BATCH, chosen_workload

import formats
from numeric_formats.files import write_atomically
from predictor.gradient.noise import observe
from predictor.measuring.session import Measuring
from predictor.scheme import Preset, scheme_of


def main(
    model: Annotated[str, typer.Argument(help="a bundled network, or cifar10")],
    output: Annotated[Path, typer.Option(help="an .npz")],
    weights: Annotated[Path | None, typer.Option(help="state dict of the CIFAR-10 ResNet-20")] = None,
    images: Annotated[Path | None, typer.Option(help="CIFAR-10 as JPEG files in a zip archive")] = None,
    scheme: Annotated[str, typer.Option(help="as of formats rank")] = Preset.CURRENT.value,
) -> None:
    """Read the noise of all formats."""
    workload = chosen_workload(model, 1, weights, images)
    batch = workload.minibatches(BATCH if callable(workload.batches) else None)[0]
    candidates = list(formats.catalogue())
    with Measuring(workload, scheme=scheme_of(scheme)).opened(batch) as gradients:
        noise = observe(gradients, candidates)
    names = np.array([entry.name for entry in candidates])
    kinds = np.array([kind.value for kind in noise.kinds])
    ratios = noise.ratios(candidates)
    write_atomically(output, lambda file: np.savez_compressed(file, names=names, kinds=kinds, ratios=ratios))
    print(f"wrote {output}: {len(names)} formats on {len(kinds)} tensors")


if __name__ == "__main__":
    typer.run(main)
