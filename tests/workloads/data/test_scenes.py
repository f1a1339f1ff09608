"""Scenes of garments."""

import numpy as np
import torch

from workloads.data import fashion_mnist, scenes
from workloads.data.scenes import BRIGHTEST, CANVAS, LARGEST, MOST, NOISE, NOTHING, SMALLEST, compose


def drawn(count=300):
    """Images that are each of one grey of its own, with a frame of black, and labels that name the grey."""
    labels = np.arange(10, dtype=np.uint8)
    images = np.zeros((10, 28, 28), np.uint8)
    for label in labels:
        images[label, 3:25, 5 : 14 + label] = 100 + 10 * label
    return compose(images, labels, count, seed=3)


def greys(images):
    """As they were before normalization, 0 to 255."""
    return (images * fashion_mnist.DEVIATION + fashion_mnist.MEAN) * 255


def test_boxes_hold_the_garments_and_nothing_else_is_there(monkeypatch):
    monkeypatch.setattr(scenes, "BRIGHTEST", 0)
    monkeypatch.setattr(scenes, "NOISE", 0)
    made = drawn()
    assert made.images.shape == (300, 1, CANVAS, CANVAS)
    assert made.boxes.shape == (300, MOST, 4)
    black = fashion_mnist.to_input(np.zeros((1, 1, 1), np.uint8)).item()
    seen = set()
    for image, boxes, classes in zip(made.images[:, 0], made.boxes, made.classes, strict=True):
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
            assert abs(greys(image[y0:y1, x0:x1]).max() - (100 + 10 * label)) <= 1
            left[y0:y1, x0:x1] = False
            seen.add(int(number))
        assert not left.any()
    assert seen == {1, 2, 3, 4}


def test_real_garments_have_their_sizes_and_labels():
    data = fashion_mnist.read_bundled()
    made = compose(data["test_images"], data["test_labels"], 200, seed=0)
    there = made.classes != NOTHING
    longer = (made.boxes[..., 2:] - made.boxes[..., :2]).amax(-1)[there]
    assert longer.min() >= SMALLEST / 2
    assert LARGEST - 1 <= longer.max() <= LARGEST
    assert made.classes[there].unique().tolist() == list(range(10))
    assert (made.boxes >= 0).all()
    assert (made.boxes <= CANVAS).all()


def test_the_background_has_noise_and_a_grey_of_its_own():
    made = drawn()
    empty = torch.ones_like(made.images[:, 0], dtype=torch.bool)
    for scene, boxes in enumerate(made.boxes.int().tolist()):
        for x0, y0, x1, y1 in boxes:
            empty[scene, y0:y1, x0:x1] = False
    grounds = [grey[outside] for grey, outside in zip(greys(made.images[:, 0]), empty, strict=True)]
    means = torch.stack([ground.mean() for ground in grounds])
    # Clipped at black: the darkest canvases are a little brighter than what was drawn.
    assert 3 < means.min() < 6
    assert BRIGHTEST - 2 < means.max() < BRIGHTEST + 1
    spread = torch.stack([ground.std() for ground, mean in zip(grounds, means, strict=True) if mean > 4 * NOISE])
    assert len(spread) > 50
    assert (spread / NOISE - 1).abs().max() < 0.1


def test_the_seed_decides_everything():
    data = fashion_mnist.read_bundled()
    a, b, c = (compose(data["test_images"], data["test_labels"], 20, seed) for seed in (5, 5, 6))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.images, c.images)
