"""Which tensors and layers of the bundled ResNet-20 cause the angle, and how well two mini-batches agree about it.

    python benchmarks/attribute.py FP134 E4M3+E5M2

Each of two mini-batches of 64 is attributed by itself. Printed for each format: the kinds on either mini-batch; whether
independent noise explains the whole (the root of the summed tan^2 of the parts, beside the angle of all of them
together); how the layers' order agrees between mini-batches, alone and left out; and the layers with the largest
shares.
"""

import time
from dataclasses import replace
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer

from predictor.attribution import EVERYTHING, attribute
from predictor.columns import ALL
from workloads import load

MODEL, BATCH = "resnet20", 64
TOP = 12


def together(angles: pd.Series) -> float:
    """The angle in degrees of independent parts: tan^2 adds up."""
    return float(np.degrees(np.arctan(np.sqrt((np.tan(np.radians(angles)) ** 2).sum()))))


def report(name: str) -> None:
    """Attribute one format and print what the module says."""
    workload = load(MODEL)
    began = time.monotonic()
    found = [
        attribute(replace(workload, batches=[batch]), name, scheme="current").set_index(["kind", "layer"])
        for batch in workload.minibatches(BATCH)[:2]
    ]
    first, second = found
    print(
        f"{name}: {len(first)} rows, {2 * first.attrs['gradients']} quantized gradients, "
        f"{time.monotonic() - began:.0f} s"
    )
    print(f"{'kind':6} {'alone':>8} {'':>8} {'without':>9} {'':>8} {'share':>6}")
    for kind in (EVERYTHING, *"WAEG"):
        one, two = first.loc[kind, ALL], second.loc[kind, ALL]
        print(
            f"{kind:6} {one.angle_alone:8.3f} {two.angle_alone:8.3f} {one.angle_without:9.3f} {two.angle_without:8.3f} "
            f"{(one.share + two.share) / 2:6.3f}"
        )
    print("parts together, expected and measured, on either mini-batch")
    for kind, parts in (
        (EVERYTHING, [(kind, ALL) for kind in "WAEG"]),
        *((k, [i for i in first.index if i[0] == k and i[1] != ALL]) for k in "WAEG"),
    ):
        pairs = [
            f"{together(table.loc[parts, 'angle_alone']):8.3f} {table.loc[(kind, ALL), 'angle_alone']:8.3f}"
            for table in found
        ]
        what = "kinds" if kind == EVERYTHING else f"{kind}, layers"
        print(f"  {what:10} {'   '.join(pairs)}")
    print("Spearman correlation between the mini-batches over layers: angle alone, angle without")
    for kind in "WAEG":
        rows = [index for index in first.index if index[0] == kind and index[1] != ALL]
        values = [
            first.loc[rows, column].corr(second.loc[rows, column], method="spearman")
            for column in ("angle_alone", "angle_without")
        ]
        print(f"  {kind} ({len(rows)} layers) {values[0]:6.3f} {values[1]:6.3f}")
    share = ((first["share"] + second["share"]) / 2).drop(ALL, level="layer").sort_values(ascending=False)
    print(f"the {TOP} largest shares of {len(share)}")
    for kind, layer in share.index[:TOP]:
        one, two = first.loc[(kind, layer)], second.loc[(kind, layer)]
        print(f"  {kind} {layer:16} {share[kind, layer]:6.3f} {one.angle_alone:8.3f} {two.angle_alone:8.3f}")
    print(flush=True)


def main(
    names: Annotated[list[str], typer.Argument(help="formats, or pairs ACTIVATION+ERROR")],
    threads: Annotated[int, typer.Option(help="threads of this process")] = 1,
) -> None:
    """Attribute formats on the bundled ResNet-20."""
    torch.set_num_threads(threads)
    for name in names:
        report(name)


if __name__ == "__main__":
    typer.run(main)
