"""How much has to be measured for a ranking? Policies replayed on what exhaustive.py measured, without a gradient.

    python benchmarks/replay.py --output benchmarks/replay.csv --figure docs/results/images/ranking_front.png

Everything but the measuring is the product's own code: anchors, race and surrogate see angles from the tables of
exhaustive.py, and noise from screen.py. Each policy is replayed from several mini-batches onwards, since which ones
come first is luck. Chosen on the first two networks, confirmed on the third.

Costs are in full-precision gradients of a mini-batch of 64. A measurement of E repeats the backward pass alone, two
thirds of a gradient, with rounding (1.1): 0.73; one of any other effect 1.1. Opening a mini-batch costs one, the screen
with the check of the flow five, and what a finished ranking is held against (two formats on two mini-batches, three
formats' weights) 8.2.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy import stats

import formats
from predictor.effects import Effect
from predictor.gradient.noise import Kind
from predictor.statistics import interval
from search.front import BESIDE, OPENING, SCREEN, UNIT, WHOLE
from search.policy import BY_E, DEFAULT, LONG, Policy, Rung
from search.stages import Stage, Stages
from search.table import regret

HERE = Path(__file__).parent
NETWORKS = ("resnet20", "cifar10", "transformer")
CHOSEN_ON = NETWORKS[:2]
PLACES = 10


@dataclass(frozen=True)
class Network:
    """What is known of a network: every angle of an effect, (formats, mini-batches), and what the screen sees."""

    name: str
    effect: Effect
    angles: np.ndarray
    kinds: tuple[Kind, ...]
    ratios: np.ndarray

    @classmethod
    def read(cls, name: str, effect: Effect = Effect.E) -> "Network":
        """From the tables beside this script; ValueError for an effect that was not measured."""
        with np.load(HERE / f"screen_{name}.npz") as seen:
            names, kinds, ratios = seen["names"], seen["kinds"], seen["ratios"]
        exact = pd.read_parquet(HERE / f"exhaustive_{name}.parquet")
        of_effect = exact[exact.effect == effect]
        if of_effect.empty:
            raise ValueError(f"{effect} was not measured on {name}")
        angles = of_effect.pivot(index="format", columns="minibatch", values="angle").loc[names]
        return cls(name, effect, angles.to_numpy(), tuple(map(Kind, kinds.tolist())), ratios)


@dataclass(frozen=True)
class Found:
    """An angle, as a measurement has it."""

    format: int
    minibatch: int
    degrees: float
    effect: Effect
    seconds: float = 0.0

    def angle(self) -> float:
        """In degrees."""
        return self.degrees

    def failed(self) -> bool:
        """Never."""
        return False


class Replay:
    """Stands where a measuring session does, and counts what it would compute."""

    def __init__(self, network: Network, first: int):
        self.effect, self.angles = network.effect, np.roll(network.angles, -first, axis=1)
        self.units = self.openings = 0

    def report(self, stage: str, done: int, total: int) -> None:
        """Nobody listens."""

    def measured(
        self, candidates: object, batches: object, effects: object, units: Sequence[tuple[int, int]]
    ) -> Iterator[Found]:
        """What the table has."""
        self.units += len(units)
        self.openings += len({number for number, _ in units})
        for number, index in units:
            yield Found(index, number, float(self.angles[index, number]), self.effect)


class Replayed(Stages):
    """The stages, whose screen was made before."""

    network: Network

    def screen(self) -> None:
        """Take it from the file."""
        self.noise: Any = self.network
        self.ratios = self.network.ratios
        self.reached = Stage.SCREEN


CANDIDATES = list(formats.catalogue())


def judge(network: Network, policy: Policy, first: int, every: bool) -> list[dict[str, Any]]:
    """The final table of a policy, or a row for every table that it has on its way."""
    replay = Replay(network, first)
    measuring: Any = replay
    minibatches = min(policy.over, network.angles.shape[1])
    stages = Replayed(measuring, CANDIDATES, range(minibatches), (network.effect,), network.effect)
    stages.network = network
    steps = stages.promising(policy)
    rows = [{"stage": stage.value} | _row(stages, replay, minibatches) for stage in steps if every]
    del rows[-1:]  # the last is the final one
    last = {"stage": "final"} | _row(stages, replay, minibatches)
    last["cost"] += BESIDE
    return [*rows, last]


def _row(stages: Replayed, replay: Replay, minibatches: int) -> dict[str, Any]:
    """How good the table is that can be made now, as `search.table.tabulate` would order it, and what it took."""
    by = stages.by
    mean, low, high = stages.predicted(stages.surrogates(stages.effects))[by]
    own = [list(stages.angles.of(index, by).values()) for index in range(len(CANDIDATES))]
    whole = np.array([len(values) >= minibatches for values in own])
    angle = np.where(whole, [np.mean(values) if values else 0.0 for values in own], mean)
    order = np.argsort(angle, kind="stable")
    names = [CANDIDATES[index].name for index in order]
    table = pd.DataFrame({"name": names, f"angle_{by}": angle[order], f"low_{by}": low[order]})
    return {
        "units": replay.units,
        "openings": replay.openings,
        "cost": SCREEN + (UNIT if by is Effect.E else WHOLE) * replay.units + OPENING * replay.openings,
        "said": regret(CANDIDATES, table, stages.angles, by),
    } | quality(stages.network, order, angle, low, high, ~whole)


def quality(
    network: Network, order: np.ndarray, angle: np.ndarray, low: np.ndarray, high: np.ndarray, partly: np.ndarray
) -> dict[str, Any]:
    """A table against the truth: regret of its first (degrees, and as a share of the best), Spearman, how many of its
    first ten are among the true ones or tie with the last of them, and how many intervals of formats that were not
    measured everywhere hold the truth."""
    mean = network.angles.mean(1)
    truth = np.argsort(mean, kind="stable")
    tenth = network.angles[truth[PLACES - 1]]
    tied = {
        int(index)
        for place, index in enumerate(truth)
        if place < PLACES or (place < 4 * PLACES and interval(network.angles[index] - tenth)[1] <= 0)
    }
    return {
        "regret": mean[order[0]] - mean[truth[0]],
        "relative": mean[order[0]] / mean[truth[0]] - 1,
        "spearman": stats.spearmanr(angle, mean)[0],
        "top": len(set(order[:PLACES].tolist()) & tied),
        "strictly": len(set(order[:PLACES].tolist()) & set(truth[:PLACES].tolist())),
        "coverage": ((low <= mean) & (mean <= high))[partly].mean(),
        "half_width": ((high - low) / 2 / angle)[partly].mean(),
    }


RACES = {
    "20 to 8": (Rung(1, 20), Rung(2, 14), Rung(4, 12), Rung(8, 10)),
    "16 to 6": (Rung(1, 16), Rung(2, 14), Rung(4, 12), Rung(6, 10)),
    "14 to 4": (Rung(2, 14), Rung(4, 12)),
    "12 to 4": (Rung(2, 12), Rung(4, 10)),
    "12 to 2": (Rung(2, 12),),
    "12 to 1": (Rung(1, 12),),
}
"""From so many contenders to so many mini-batches."""
ANCHORS = ((0, 0), (8, 1), (15, 1), (15, 2), (22, 2))
"""How many, on so many mini-batches."""
FIRST = tuple(range(0, 16, 2))
"""The mini-batches that come first: which ones do is luck, and three beginnings were too few to tell policies apart."""


def policies() -> dict[str, Policy]:
    """All that are tried, by name."""
    tried = {
        f"{anchors} on {on}, {race}": Policy(anchors, on, rungs)
        for (anchors, on), (race, rungs) in itertools.product(ANCHORS, RACES.items())
        if on <= rungs[-1].minibatches
    }
    return tried | {"before": LONG, "default": BY_E}


def policies_by_ae() -> dict[str, Policy]:
    """What is tried where AE orders, by name."""
    return {
        f"{anchors} on 2, {race}": Policy(anchors, 2, RACES[race])
        for anchors, race in itertools.product((12, 15, 22), ("14 to 4", "12 to 4"))
    } | {"default": DEFAULT}


BESIDE_AE = Policy(DEFAULT.anchors, DEFAULT.on(DEFAULT.over)[1], ())
"""What is measured of effects that do not order, where AE does."""


def main(
    output: Annotated[Path, typer.Option(help="one row a replay; those of other networks stay")],
    networks: Annotated[str, typer.Option(help="comma-separated")] = ",".join(NETWORKS),
) -> None:
    """Replay all policies."""
    asked = networks.split(",")
    rows = []
    for name in asked:
        network, began = Network.read(name), time.monotonic()
        tried = [(network, policy, chosen) for policy, chosen in policies().items()]
        tried += [(network, "beside AE", BESIDE_AE)]
        by_ae = Network.read(name, Effect.AE)
        tried += [(by_ae, policy, chosen) for policy, chosen in (policies() | policies_by_ae()).items()]
        if name in CHOSEN_ON:  # where all effects were measured
            a = Network.read(name, Effect.A)
            tried += [(a, "default", DEFAULT), (a, "beside AE", BESIDE_AE)]
        for of, policy, chosen in tried:
            for first in sorted({first % of.angles.shape[1] for first in FIRST}):
                found = judge(of, chosen, first, policy == "default")
                told = {"network": name, "effect": of.effect.value, "policy": policy, "first": first}
                rows += [told | row for row in found]
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    if output.exists():
        before = pd.read_csv(output)
        table = pd.concat([before[~before.network.isin(asked)], table], ignore_index=True)
    table.to_csv(output, index=False, float_format="%.5g")


if __name__ == "__main__":
    typer.run(main)
