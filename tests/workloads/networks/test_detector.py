"""The detector."""

import pytest
import torch
from torch import nn

from predictor.flow.dataflow import DataFlow
from training.starting import start_from_scratch
from workloads import load
from workloads.data import scenes
from workloads.networks.average_precision import Detections, overlaps
from workloads.networks.detector import (
    CLASSES,
    OVERLAP,
    PRIOR,
    Detector,
    cells,
    detect,
    detection_loss,
    detection_precision,
    targets,
)


class Says(nn.Module):
    """A detector that gives what it was told."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


def told(batch, sure=20.0):
    """The output of a detector that is right about everything."""
    wanted, count = targets(batch), len(cells().strides)
    output = torch.cat(
        [torch.full((len(batch.images), count, CLASSES), -sure), torch.zeros(len(batch.images), count, 4)], 2
    )
    output[wanted.scene, wanted.cell, wanted.classes] = sure
    output[wanted.scene, wanted.cell, CLASSES:] = wanted.boxes
    return output


@pytest.fixture(scope="module")
def tests():
    return scenes.bundled_test()


def test_it_reaches_its_precision():
    workload = load("detector")
    assert sum(p.numel() for p in workload.model.parameters()) == 263_742
    workload.model.eval()
    (whole,) = workload.test(64)
    assert len(whole.images) == scenes.TEST
    # As printed after pretraining: benchmarks/pretrain_detector.txt.
    assert workload.metric(workload.model, whole) == pytest.approx(0.8512, abs=1e-4)


@pytest.mark.slow
def test_mini_batches_are_the_same_each_time():
    workload = load("detector")
    batches, again = workload.minibatches(64), workload.minibatches(64)
    assert len(batches) == 50
    assert batches[0].images.shape == (64, 1, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(batches[7], again[7], strict=True))


def test_what_a_perfect_detector_says_is_right(tests):
    model = Says(told(tests))
    assert detection_precision(model, tests) == 1
    assert detection_loss(model, tests) == pytest.approx(0, abs=1e-6)
    # Every object has a cell of its own, which holds its center.
    wanted = targets(tests)
    assert len(wanted.scene) == (tests.classes >= 0).sum()
    assert len(set(zip(wanted.scene.tolist(), wanted.cell.tolist(), strict=True))) == len(wanted.scene)
    assert wanted.boxes[:, :2].abs().max() <= 0.5
    assert (wanted.cell < 64).any()
    assert (wanted.cell >= 64).any()


def test_the_loss_by_hand():
    boxes, classes = torch.zeros(1, scenes.MOST, 4), torch.full((1, scenes.MOST), scenes.NOTHING)
    boxes[0, 0], classes[0, 0] = torch.tensor([8.0, 16, 24, 32]), 3
    batch = scenes.Scenes(torch.zeros(1, 1, 64, 64), boxes, classes)
    output = torch.zeros(1, 80, CLASSES + 4)
    # Center 16, 24 is in column 2, row 3 of the first scale, whose cell has its center at 20, 28; sides of 2 strides.
    wanted = targets(batch)
    assert wanted.cell.tolist() == [3 * 8 + 2]
    torch.testing.assert_close(
        wanted.boxes,
        torch.tensor([[-0.5, -0.5, 2.0, 2.0]]).where(torch.tensor([True, True, False, False]), torch.tensor(2.0).log()),
    )
    # All logits 0: half sure, so each class of each cell costs alpha * (1/2)^2 * log 2; smooth L1 with beta 0.1 is |d|
    # - 0.05.
    log2 = torch.tensor(2.0).log()
    expected = (0.25 + 0.75 * (80 * CLASSES - 1)) * 0.25 * log2 + 2 * (0.5 - 0.05) + 2 * (log2 - 0.05)
    torch.testing.assert_close(detection_loss(Says(output), batch), expected)


def test_of_overlapping_boxes_the_surest_is_kept():
    output = torch.full((2, 80, CLASSES + 4), -20.0)
    output[..., CLASSES:] = 0
    output[..., CLASSES + 2 :] = torch.tensor(2.0).log()
    for scene, cell, label, logit, shift in (
        (0, 9, 1, 2.0, 0.0),
        (0, 10, 1, 3.0, -0.75),
        (0, 11, 1, 1.0, 0.0),
        (0, 9, 2, 0.5, 0.0),
        (1, 9, 1, 0.0, 0.0),
    ):
        output[scene, cell, label] = logit
        output[scene, cell, CLASSES] = shift
    found = detect(Says(output), torch.zeros(2, 1, 64, 64))
    # Cells 9 and 10 of class 1 overlap, since 10 says that its box lies 6 pixels further left; 11 and the other class
    # and scene are apart.
    assert list(zip(found.scene.tolist(), found.classes.tolist(), strict=True)) == [(0, 1), (0, 1), (0, 2), (1, 1)]
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 1.0, 0.5, 0.0]).sigmoid())
    assert found.boxes.tolist()[0] == [14 - 8, 12 - 8, 14 + 8, 12 + 8]
    assert overlaps(found.boxes[:1], found.boxes[1:2]) <= OVERLAP
    nothing = detect(Says(torch.full((2, 80, CLASSES + 4), -20.0)), torch.zeros(2, 1, 64, 64))
    assert isinstance(nothing, Detections)
    assert len(nothing.boxes) == 0


def test_new_weights_begin_with_few_objects():
    torch.manual_seed(0)
    model = Detector()
    start_from_scratch(model)
    scores = model(torch.zeros(2, 1, 64, 64))[..., :CLASSES].sigmoid()
    assert PRIOR / 3 < scores.mean() < 3 * PRIOR


def test_points():
    # The input, seven blocks of convolution, normalization and SiLU, both paths to the head, the way back up and the
    # sum; the head on two scales.
    flow = DataFlow(Detector())
    with flow:
        flow.model(torch.zeros(2, 1, 64, 64))
    block, head = ["conv2d", "batch_norm", "silu"], ["conv2d", "group_norm", "silu", "conv2d", "conv2d"]
    found = [point.operation for point in flow.points]
    assert found == ["input", *block * 7, "conv2d", "conv2d", "interpolate", "add", *head * 2]
    assert [point.name for point in flow.points if point.last] == [
        "scores:conv2d",
        "boxes:conv2d",
        "scores:conv2d#1",
        "boxes:conv2d#1",
    ]
