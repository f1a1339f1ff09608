"""Scenes of garments."""

import numpy as np
import torch

from workloads import fashion_mnist
from workloads.scenes import CANVAS, LARGEST, MOST, NOTHING, SMALLEST, compose


def drawn(count=300):
    """Images that are each of one grey of its own, with a frame of black, and labels that name the grey."""
    labels = np.arange(10, dtype=np.uint8)
    images = np.zeros((10, 28, 28), np.uint8)
    for label in labels:
        images[label, 3:25, 5 : 14 + label] = 100 + 10 * label
    return compose(images, labels, count, seed=3)


def test_boxes_hold_the_garments_and_nothing_else_is_there():
    scenes = drawn()
    assert scenes.images.shape == (300, 1, CANVAS, CANVAS)
    assert scenes.boxes.shape == (300, MOST, 4)
    black = fashion_mnist.to_input(np.zeros((1, 1, 1), np.uint8)).item()
    seen = set()
    for image, boxes, classes in zip(scenes.images[:, 0], scenes.boxes, scenes.classes, strict=True):
        lit, left = image > black, image > black
        number = (classes != NOTHING).sum()
        assert 1 <= number <= MOST
        assert (classes[number:] == NOTHING).all()
        assert (boxes[number:] == 0).all()
        for box, label in zip(boxes[:number], classes, strict=False):
            assert torch.equal(box, box.round())
            x0, y0, x1, y1 = box.int().tolist()
            inside = lit[y0:y1, x0:x1]
            # Tight: each edge of the box has a pixel of the garment.
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            grey = (image[y0:y1, x0:x1] * fashion_mnist.DEVIATION + fashion_mnist.MEAN).max() * 255
            assert abs(grey - (100 + 10 * label)) <= 1
            left[y0:y1, x0:x1] = False
            seen.add(int(number))
        assert not left.any()
    assert seen == {1, 2, 3, 4}


def test_real_garments_have_their_sizes_and_labels():
    data = fashion_mnist.read_bundled()
    scenes = compose(data["test_images"], data["test_labels"], 200, seed=0)
    there = scenes.classes != NOTHING
    longer = (scenes.boxes[..., 2:] - scenes.boxes[..., :2]).amax(-1)[there]
    assert longer.min() >= SMALLEST / 2
    assert LARGEST - 1 <= longer.max() <= LARGEST
    assert scenes.classes[there].unique().tolist() == list(range(10))
    assert (scenes.boxes >= 0).all()
    assert (scenes.boxes <= CANVAS).all()


def test_the_seed_decides_everything():
    data = fashion_mnist.read_bundled()
    a, b, c = (compose(data["test_images"], data["test_labels"], 20, seed) for seed in (5, 5, 6))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.images, c.images)
