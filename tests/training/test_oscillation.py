"""Weights that flip back: which are counted, and what is said of them."""

import random
from itertools import pairwise

import pandas as pd
import pytest
import torch

from tests.training import small
from training import train
from training.oscillation import LAST, MOVING, OFTEN, WITHIN, Turns, oscillation_seen


def turned(path):
    """Of one weight's values over steps: in which steps it turned back within WITHIN, in plain Python."""
    found, last, when = [], 0, None
    for step, (before, after) in enumerate(pairwise(path)):
        direction = (after > before) - (after < before)
        found.append(bool(direction) and direction == -last and step - when <= WITHIN)
        if direction:
            last, when = direction, step
    return found


PATHS = {
    "to and fro": [0, 1, 0, 1, 0],
    "one way": [0, 1, 2, 3, 3, 4],
    "back in time": [0, 1, *[1] * (WITHIN - 1), 0],
    "back a step too late": [0, 1, *[1] * WITHIN, 0],
    "back long after": [0, 1, *[1] * 300, 0, 1],
    "back beyond where it was": [2, 3, -5, -5, 1],
    "still": [0.5] * 20,
}


@pytest.mark.parametrize("name", PATHS)
def test_a_weight_that_turns_back(name):
    path, turns = [torch.tensor([float(v)]) for v in PATHS[name]], Turns(torch.zeros(1))
    counted = [turns.see(before, after) for before, after in pairwise(path)]
    assert counted == turned(PATHS[name])


def test_many_weights_of_random_paths():
    """Steps of at most one, most of them none, so that all distances of turns come up."""
    chosen = random.Random(0)
    paths = [[0.0] for _ in range(60)]
    for _ in range(200):
        for path in paths:
            path.append(path[-1] + chosen.choice([-1, *[0] * 9, 1]))
    values, turns = torch.tensor(paths), Turns(torch.zeros(60))
    counted = [turns.see(values[:, step], values[:, step + 1]) for step in range(200)]
    wanted = [sum(each) for each in zip(*map(turned, paths), strict=True)]
    assert counted == wanted
    assert sum(counted) > 100
    assert turns.since.dtype is torch.int8


def table(shares):
    return pd.DataFrame({"step": range(1, len(shares) + 1), "oscillation": shares})


def test_what_is_said():
    assert oscillation_seen(table([float("nan")] * 3), "nearest") is None
    assert oscillation_seen(table([0.1]).drop(columns="oscillation"), "nearest") is None
    shares = [0.5] * (9 * LAST) + [2 * OFTEN] * LAST
    said = oscillation_seen(table(shares), "nearest")
    assert said.startswith("in a step 45.01% of the quantized weights flipped back within 10 steps, 0.080% in the last")
    assert said.endswith("above 0.04%, --weight-rounding hysteresis lowers the loss, and so does a smaller last rate")
    assert oscillation_seen(table(shares), "stochastic").endswith("never settles")
    few = [0.5] * (9 * LAST) + [0.9 * OFTEN] * LAST
    assert oscillation_seen(table(few), "nearest").endswith("last tenth of the run")


def test_hysteresis_that_holds_weights_back():
    still = table([0.5] * (10 * LAST)).assign(flip_rate=[0.5] * (9 * LAST) + [MOVING / 2] * LAST)
    said = oscillation_seen(still, "hysteresis")
    assert said.endswith(
        "where 0.005% still moved; of runs that end below 0.01%, those with --weight-rounding nearest had a lower loss"
    )
    assert oscillation_seen(still.assign(flip_rate=MOVING), "hysteresis").endswith("last tenth of the run")
    assert "lowers the loss" in oscillation_seen(still.assign(epoch=2), "hysteresis", hysteresis_epochs=1)


def test_only_weights_that_are_quantized():
    found = train(small.workload(), epochs=1, **small.FULL)
    assert found.steps.oscillation.isna().all()
    assert oscillation_seen(found.steps, "hysteresis") is None
