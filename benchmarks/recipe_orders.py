"""Orders of recipes that others found by training, held against what recipes do to a gradient: the expected ones were
written down first (docs/results/recipes.md).

    python -m benchmarks.recipe_orders > benchmarks/recipe_orders.txt
    python -m benchmarks.recipe_orders SmolLM2-135M-Instruct.Q4_1.gguf > benchmarks/recipe_orders_smollm2.txt

On the bundled transformer, or on a language model of a file. Printed for each order: what was published (a loss, or who
is ahead of whom), the numbers of `formats recipes`, and Kendall's tau-b of the two, where equal published numbers are
ties. Smaller is better in every column; "shrinks" is the distance of the projection from 1.
"""

import sys
from pathlib import Path

import torch
from scipy import stats

from benchmarks.smollm2 import smollm2
from formats import recipe
from formats.recipes.value import Recipe
from predictor import measure_recipes
from predictor.columns import ALL, ANGLE, ANGLE_OF_MEAN, BIAS, LOSS_RISE, PART, PRODUCT, PROJECTION, RECIPE
from predictor.measuring.store import Store
from workloads import Workload, load

E2M3, E3M2, E4M3, E5M2 = "MXFP6-E2M3", "MXFP6-E3M2", "MXFP8-E4M3", "MXFP8-E5M2"
STOCHASTIC = {"rounding": {"dy": "stochastic"}}
DRAWS = 4


def weights(name: str, format: str) -> Recipe:
    """A format for the weights, in both products that they take part in."""
    return recipe(name, w=format)


def forward(name: str, format: str) -> Recipe:
    """A format in the forward pass."""
    return recipe(name, fprop={"x": format, "w": format})


def everything(name: str, activations: str, of_weights: str) -> Recipe:
    """A format for activations and errors, and one for weights."""
    return recipe(name, x=activations, w=of_weights, dy=activations)


def without(name: str, **fields: object) -> Recipe:
    """NVIDIA's recipe with something else in it."""
    return recipe(name, base="nvfp4", **fields)


NEAREST = {"rounding": {"dy": "nearest"}}
NVFP4 = recipe("nvfp4")
PLAIN_LOG4 = recipe("dy LOG4 nearest", dy="LOG4")
ORDERS: dict[str, list[tuple[Recipe, float]]] = {
    "1 Kempner, weights alone: loss above bfloat16's": [
        (weights("w E2M3", E2M3), 0.0007), (weights("w E4M3", E4M3), 0.0007), (weights("w E5M2", E5M2), 0.0022),
    ],
    "2 Kempner, forward alone": [(forward("forward E4M3", E4M3), 0.003), (forward("forward E5M2", E5M2), 0.008)],
    "3 Kempner, everything": [
        (everything("E2M3", E2M3, E2M3), 0.006), (everything("w E3M2, others E2M3", E2M3, E3M2), 0.008),
        (everything("E3M2", E3M2, E3M2), 0.034), (everything("E5M2", E5M2, E5M2), 0.038),
    ],
    "4 scaling law, 8 bits, channel scales: relative penalty": [
        (recipe("FP143/channel"), 1.0), (recipe("FP134/channel"), 1.06), (recipe("FP152/channel"), 1.42),
        (recipe("FP125/channel"), 1.72), (recipe("FP161/channel"), 3.8), (recipe("FP116/channel"), 5.4),
    ],
    "5 scaling law, 6 bits": [
        (recipe("FP132/channel"), 1.0), (recipe("FP123/channel"), 1.08), (recipe("FP141/channel"), 2.0),
        (recipe("FP114/channel"), 2.6),
    ],
    "6 NVIDIA: NVFP4 before MXFP4": [(NVFP4, 0), (recipe("mxfp4"), 1)],
    "7 NVIDIA: without stochastic rounding": [
        (NVFP4, 0), (without("nvfp4, nearest", dgrad=NEAREST, wgrad=NEAREST | {"hadamard": 16}), 1),
    ],
    "7 NVIDIA: without the transform": [(NVFP4, 0), (recipe("nvfp4-2d-sr"), 1)],
    "7 NVIDIA: weights in one dimension": [(NVFP4, 0), (without("nvfp4, w 1-D", w="NVFP4"), 1)],
    "8 DeepSeek-V3: errors in tiles": [
        (recipe("fp8-block"), 0), (recipe("fp8-block, dy in tiles", base="fp8-block", dy="E4M3/real/tile128x128"), 1),
    ],
    "10 LUQ: errors alone, four bits, to nearest": [
        (recipe("dy LOG4 stochastic", base=PLAIN_LOG4, dgrad=STOCHASTIC, wgrad=STOCHASTIC), 0), (PLAIN_LOG4, 1),
    ],
}  # fmt: skip
COLUMNS = {"angle": ANGLE, "of mean": ANGLE_OF_MEAN, "bias": BIAS, "loss": LOSS_RISE, "shrinks": PROJECTION}


def named(file: Path | None) -> tuple[Workload, int, int | None]:
    """The network, and how many mini-batches of how many examples; None: as they come, four sequences of 128 tokens."""
    if file is None:
        return load("transformer"), 4, 64
    return smollm2(file), 1, None


def main(file: Path | None) -> None:
    """Print every order, and which of MXFP4's products turns the gradient most."""
    workload, minibatches, batch_size = named(file)
    chosen = {one.name: one for of in ORDERS.values() for one, _ in of}
    with Store.open() as store:
        options = {"batch_size": batch_size, "store": store}
        table = measure_recipes(workload, list(chosen.values()), minibatches, draws=DRAWS, **options)
        apart = measure_recipes(workload, ["mxfp4"], minibatches, by=["product"], **options)
    found = table[table[PRODUCT] == ALL].set_index(RECIPE)
    found[PROJECTION] = (found[PROJECTION] - 1).abs()
    sums = {name: [0, 0] for name in COLUMNS}
    for order, of in ORDERS.items():
        print(f"{order}\n  {'recipe':26}{'published':>10}" + "".join(f"{name:>10}" for name in COLUMNS))
        for one, number in of:
            row = found.loc[one.name]
            print(f"  {one.name:26}{number:10.4f}" + "".join(f"{row[column]:10.4f}" for column in COLUMNS.values()))
        taus = {}
        for name, column in COLUMNS.items():
            values = [found.loc[one.name, column] for one, _ in of]
            taus[name] = float(stats.kendalltau(values, [number for _, number in of]).statistic)
            for first in range(len(of)):
                for second in range(first + 1, len(of)):
                    if of[first][1] != of[second][1]:
                        sums[name][1] += 1
                        sums[name][0] += bool(values[first] < values[second])
        print(f"  {'tau-b':36}" + "".join(f"{tau:10.2f}" for tau in taus.values()), flush=True)
    print("pairs in the published order: " + ", ".join(f"{name} {met} of {of}" for name, (met, of) in sums.items()))
    print("9 AMD: of MXFP4's products, wgrad hurts most")
    print(f"  {'product':36}" + "".join(f"{name:>10}" for name in COLUMNS))
    mine = apart[(apart[RECIPE] == "mxfp4") & (apart[PART] == "everywhere")]
    for _, row in mine.iterrows():
        values = [abs(row[column] - 1) if column == PROJECTION else row[column] for column in COLUMNS.values()]
        print(f"  {row[PRODUCT]:36}" + "".join(f"{value:10.4f}" for value in values))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
