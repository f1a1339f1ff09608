"""Recipes on the bundled transformer, beside what an independent implementation gives.

Run: python benchmarks/recipes_reference.py > benchmarks/recipes_reference.txt

The first two mini-batches of 64 windows; all parameters of two or more dimensions; the eight projections as the modules
hold them (q, k and v are one product), head and embeddings exact; four draws of random numbers. Angles in degrees.
"""

import sys

import pandas as pd

from predictor import measure_recipes
from predictor.columns import (
    ALL,
    ANGLE,
    ANGLE_OF_MEAN,
    BIAS,
    LENGTH_RATIO,
    LOSS_RISE,
    PRODUCT,
    PROJECTION,
    RANK,
    RECIPE,
)
from workloads import load

REFERENCE = {
    ("bf16", ALL): (0.639, 1.0003),
    ("fp8-tensor", ALL): (10.840, 0.9907),
    ("fp8-tensor", "fprop"): (9.627, 1.0023),
    ("fp8-tensor", "dgrad"): (4.041, 0.9920),
    ("fp8-tensor", "wgrad"): (2.936, 0.9971),
    ("fp8-tensor-e4m3", ALL): (10.062, 0.9984),
    ("fp8-block", ALL): (9.805, 0.9917),
    ("mxfp8", ALL): (11.680, 0.9803),
    ("mxfp6-e2m3", ALL): (10.931, 0.9828),
    ("mxfp4", ALL): (51.540, 0.7350),
    ("nvfp4-1d", ALL): (37.515, 0.9001),
    ("nvfp4-2d", ALL): (38.442, 0.9079),
    ("nvfp4-2d-sr", ALL): (39.049, 0.9080),
}
RANDOM = ("nvfp4-2d-sr", "nvfp4")
OF_ANGLE, OF_RANDOM_ANGLE, OF_PROJECTION = 0.02, 0.06, 0.003
"""How far apart the two may be: shares of the angle, and of the projection itself."""


def main() -> int:
    """Print the table; 1 where something is further apart than allowed."""
    workload = load("transformer")
    everything = measure_recipes(workload, None, 2, batch_size=64)
    apart = measure_recipes(workload, ["fp8-tensor"], 2, batch_size=64, by=["product"])
    table = pd.concat([everything, apart[apart[PRODUCT] != ALL].dropna(subset=ANGLE)])
    table = table[table[RANK].notna() | (table[RECIPE] == "fp8-tensor")]
    head = f"{'recipe':18}{'product':9}{'angle':>8}{'there':>8}{'apart':>8}{'proj.':>9}{'there':>8}{'apart':>9}"
    print(f"{head}{'of mean':>9}{'length':>8}{'bias':>9}{'loss':>10}")
    outside = []
    for _, row in table.iterrows():
        key = row[RECIPE], row[PRODUCT]
        of_reference = REFERENCE.get(key)
        line = f"{row[RECIPE]:18}{row[PRODUCT]:9}{row[ANGLE]:8.3f}"
        if of_reference is None:
            line += f"{'-':>8}{'':8}{row[PROJECTION]:9.4f}{'-':>8}{'':9}"
        else:
            angle, projection = of_reference
            apart, along = row[ANGLE] / angle - 1, row[PROJECTION] - projection
            line += f"{angle:8.3f}{100 * apart:+7.2f}%{row[PROJECTION]:9.4f}{projection:8.4f}{along:+9.4f}"
            if abs(apart) > (OF_RANDOM_ANGLE if key[0] in RANDOM else OF_ANGLE) or abs(along) > OF_PROJECTION:
                outside.append(f"{row[RECIPE]} {row[PRODUCT]}")
        print(f"{line}{row[ANGLE_OF_MEAN]:9.3f}{row[LENGTH_RATIO]:8.4f}{row[BIAS]:9.4f}{row[LOSS_RISE]:+10.4f}")
    print(f"\norder: {', '.join(f'{row[RANK]} {row[RECIPE]}' for _, row in table[table[RANK].notna()].iterrows())}")
    print(f"{len(REFERENCE) - len(outside)} of {len(REFERENCE)} agree; outside: {', '.join(outside) or 'none'}")
    return int(bool(outside))


if __name__ == "__main__":
    sys.exit(main())
