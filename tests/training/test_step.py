"""One training step: against plain torch, what sampling and evaluating leave alone, and when no step is made."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import formats
from predictor.flow.dataflow import DataFlow
from predictor.gradient.quantizers import activation_quantizer
from tests.training import small
from tests.training.runs import same, state
from tests.training.small import FULL
from training import train
from training.methods import LSQ


def test_full_precision_is_plain_torch():
    """With float32 for everything the harness is torch's own SGD, up to the order of a multiplication and an
    addition."""
    workload = small.workload()
    workload.model[6].p = 0.0
    found = train(workload, epochs=1, rate=0.05, schedule="constant", start="pretrained", angle_every=2, **FULL)
    model = workload.model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    losses = []
    for place in np.random.default_rng((0, 0)).permutation(8):
        optimizer.zero_grad()
        loss = workload.loss(model, workload.batches[place])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(found.steps.loss, losses, rtol=1e-5)
    # The angle of a gradient to itself, computed a second time with the network as it was.
    assert found.steps.angle.dropna().tolist() == [0.0] * 4
    assert found.layers.flips.isna().all()
    assert set(found.layers.angle) == {0.0}
    assert not found.layers.underflows.any()


def test_sampling_the_angle_changes_nothing():
    plain, sampled = train(small.workload(), epochs=1), train(small.workload(), epochs=1, angle_every=3)
    assert same(state(plain.model), state(sampled.model))
    angles = sampled.steps.angle
    assert angles.notna().tolist() == [True, False, False, True, False, False, True, False]
    assert angles.dropna().between(1, 60).all()


@pytest.mark.parametrize(
    "formats",
    [{}, {"weight": "float32"}, {"method": LSQ(), "activation": "FP134"}],
    ids=["all", "float32 weights", "method"],
)
def test_each_layer_has_its_angle_where_it_was_sampled(formats):
    found = train(small.workload(), epochs=1, angle_every=3, **formats)
    each = found.layers.dropna(subset="angle")
    assert set(each.step) == {1, 4, 7}
    assert set(each.kind) == {"W"}
    for step, rows in each.groupby("step"):
        assert sorted(rows.place) == ["0.weight", "3.weight", "8.weight"]
        row = found.steps[found.steps.step == step].iloc[0]
        assert rows.angle.mean() == pytest.approx(row.layer_angle)
        assert rows.angle.min() < row.angle < rows.angle.max()
    # Flips are counted once.
    weights = found.layers[(found.layers.kind == "W") & found.layers.flips.notna()]
    assert not weights.duplicated(["step", "place"]).any()


def test_the_metric_is_of_rounded_weights_and_activations():
    exact = train(small.workload(), activation="float32", epochs=1)
    assert exact.metric == small.accuracy(exact.model, small.workload().test[0])
    # Coarse, so that a rounded activation changes the answer.
    found = train(small.workload(), activation="E2M1", scale="current", epochs=1)
    images, labels = small.workload().test[0]
    with DataFlow(found.model) as flow:
        flow.activation = activation_quantizer(formats.get("E2M1"))
        rounded = float((found.model(images).argmax(1) == labels).float().mean())
    assert found.metric == rounded != small.accuracy(found.model, (images, labels))


def test_evaluating_leaves_no_trace():
    often, once = (train(small.workload(), epochs=2, metric_every=every) for every in (1, 2))
    assert same(state(often.model), state(once.model))
    assert once.epochs.metric.notna().tolist() == [False, True]
    assert once.metric == often.metric
    pd.testing.assert_frame_equal(often.layers, once.layers)


def test_a_gradient_that_is_not_finite_is_a_divergence():
    def loss(model, batch):
        return torch.sqrt(model(batch[0]).sum() * 0)  # 0, with an infinite derivative

    found = train(replace(small.workload(), loss=loss), epochs=1, **FULL)
    assert found.reason == "the gradient of 0.weight is not finite at step 1"
