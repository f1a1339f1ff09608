"""Mean average precision against one computed with fractions and loops."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from workloads.networks.average_precision import Detections, mean_average_precision, overlaps


def overlap(a, b):
    """Exact, of boxes of whole numbers."""
    width, height = (max(0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return Fraction(width * height, sum(areas) - width * height)


def slow(found, boxes, classes):
    precisions = []
    for label in sorted({c for row in classes for c in row if c >= 0}):
        objects = [
            [box for box, c in zip(own, of, strict=True) if c == label] for own, of in zip(boxes, classes, strict=True)
        ]
        total, hits, curve = sum(map(len, objects)), 0, []
        rows = sorted((row for row in found if row[1] == label), key=lambda row: -row[2])
        for number, (scene, _, _, box) in enumerate(rows, 1):
            best = max(objects[scene], key=lambda candidate: overlap(box, candidate), default=None)
            if best is not None and overlap(box, best) >= Fraction(1, 2):
                objects[scene].remove(best)
                hits += 1
            curve.append((hits, Fraction(hits, number)))
        # At each recall, the best precision that is reached there or later.
        parts = (max((p for reached, p in curve if reached >= hit), default=Fraction(0)) for hit in range(1, total + 1))
        precisions.append(sum(parts) / total)
    return sum(precisions) / len(precisions)


def as_tensors(found):
    scene, classes, scores, boxes = zip(*found, strict=True)
    return Detections(
        torch.tensor(scene), torch.tensor(classes), torch.tensor(scores), torch.tensor(boxes, dtype=torch.float32)
    )


@pytest.mark.parametrize("seed", range(12))
def test_against_the_reference(seed):
    random = np.random.default_rng(seed)
    low = random.integers(0, 40, (6, 4, 2))
    boxes = np.concatenate([low, low + random.integers(4, 20, (6, 4, 2))], 2)
    classes = random.integers(-1, 3, (6, 4))
    found = []
    for number, score in enumerate(random.permutation(60)):
        scene, place = random.integers(6), random.integers(4)
        box = boxes[scene, place] + random.integers(-2, 3, 4) * (number % 3)
        label = int(classes[scene, place]) if random.random() < 0.8 else int(random.integers(0, 4))
        found.append((int(scene), max(label, 0), score / 60, [int(v) for v in box]))
    expected = slow(found, boxes.tolist(), classes.tolist())
    assert 0.1 < expected < 1
    assert mean_average_precision(
        as_tensors(found), torch.tensor(boxes).float(), torch.tensor(classes)
    ) == pytest.approx(float(expected), abs=1e-12)


def test_known_cases():
    boxes, classes = torch.tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30]]]), torch.tensor([[2, 2]])
    exact, near, off = [0, 0, 10, 10], [20, 20, 30, 25], [20, 20, 30, 24]
    for found, expected in (
        ([(0, 2, 0.9, exact), (0, 2, 0.8, near)], 1.0),  # an overlap of one half is enough
        ([(0, 2, 0.9, exact), (0, 2, 0.8, off)], 0.5),  # less is not
        ([(0, 2, 0.9, exact), (0, 2, 0.8, exact), (0, 2, 0.7, near)], 0.5 + 0.5 * 2 / 3),  # found twice counts once
        ([(0, 1, 0.9, exact)], 0.0),  # another class
    ):
        assert mean_average_precision(as_tensors(found), boxes, classes) == pytest.approx(expected)
    nothing = Detections(*(part[:0] for part in as_tensors([(0, 2, 0.9, exact)])))
    assert mean_average_precision(nothing, boxes, classes) == 0
    with pytest.raises(ValueError, match="no objects"):
        mean_average_precision(nothing, boxes, torch.full((1, 2), -1))


def test_overlaps():
    a, b = torch.tensor([[0.0, 0, 2, 2], [5, 5, 6, 6]]), torch.tensor([[1.0, 0, 3, 2], [0, 0, 2, 2], [5, 5, 5, 5]])
    torch.testing.assert_close(overlaps(a, b), torch.tensor([[1 / 3, 1, 0], [0, 0, 0]]))
