"""Scenes to detect garments in: images of Fashion-MNIST at random places and sizes on a grey background with noise.

Background: its grey differs from scene to scene, and every pixel has noise, as a camera's would. On a black canvas all
cells without an object are rounded alike and their errors add up: angles of activations were several times as large,
and differed as much between mini-batches.

A scene holds one to MOST garments in square tiles that do not overlap. A garment's box is the smallest that holds its
pixels: x0, y0, x1, y1 in pixels, from the left and top edge of its first to the right and bottom edge of its last
pixel.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from workloads.data import fashion_mnist

CANVAS, MOST = 64, 4
SMALLEST, LARGEST = 16, 40
"""Sides of a tile in pixels."""
BRIGHTEST, NOISE = 64, 10
"""Background: its mean grey is at most the first, of 255; its standard deviation is the second."""
TRIES = 20
"""Tiles that are drawn for a scene; those that would overlap an earlier one are left out."""
TRAIN, TEST = 3_200, 500
"""Scenes that the bundled workload trains and is tested on."""
NOTHING = -1
"""The class where a scene has fewer than MOST garments."""


class Scenes(NamedTuple):
    """images: (N, 1, CANVAS, CANVAS) float32, normalized as the single images are. boxes: (N, MOST, 4) float32.
    classes: (N, MOST) int64."""

    images: Tensor
    boxes: Tensor
    classes: Tensor


def _tiles(count: int, garments: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows of scene, garment, side, left, top."""
    wanted = random.integers(1, MOST + 1, count)
    sides = random.integers(SMALLEST, LARGEST + 1, (count, TRIES))
    places = random.integers(0, CANVAS - sides[..., None] + 1, (count, TRIES, 2))
    tries = np.concatenate([random.integers(garments, size=(count, TRIES, 1)), sides[..., None], places], 2).tolist()
    found = []
    for scene in range(count):
        placed: list[list[int]] = []
        for tile in tries[scene]:
            _, side, x, y = tile
            if all(
                x >= left + other or left >= x + side or y >= top + other or top >= y + side
                for _, other, left, top in placed
            ):
                placed.append(tile)
                if len(placed) == wanted[scene]:
                    break
        found += [(scene, *tile) for tile in placed]
    return np.array(found, np.int64)


def _background(count: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Canvases (count, CANVAS, CANVAS) without objects."""
    grey = random.uniform(0, BRIGHTEST, (count, 1, 1)) + NOISE * random.standard_normal((count, CANVAS, CANVAS))
    return grey.round().clip(0, 255).astype(np.uint8)


def _resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Images (N, 28, 28) as (N, side, side)."""
    grey = torch.from_numpy(images)[:, None].float()
    scaled = F.interpolate(grey, (side, side), mode="bilinear", align_corners=False, antialias=side < images.shape[1])
    return scaled[:, 0].round().clamp(0, 255).to(torch.uint8).numpy()


def _extent(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First place and one after the last that is not black, in each row (N, places)."""
    seen = pixels > 0
    return seen.argmax(1), seen.shape[1] - seen[:, ::-1].argmax(1)


def compose(images: NDArray[np.uint8], labels: NDArray[np.uint8], count: int, seed: int) -> Scenes:
    """Scenes of garments drawn from images (N, 28, 28) with labels (N,), none of which is black all over; the seed
    decides everything."""
    random = np.random.default_rng(seed)
    tiles, canvas = _tiles(count, len(images), random), _background(count, random)
    boxes, classes = np.zeros((count, MOST, 4), np.float32), np.full((count, MOST), NOTHING)
    first = np.searchsorted(tiles[:, 0], tiles[:, 0])
    place = np.arange(len(tiles)) - first  # among the garments of the scene
    for side in range(SMALLEST, LARGEST + 1):
        rows = np.flatnonzero(tiles[:, 2] == side)
        scene, garment, _, left, top = tiles[rows].T
        resized = _resized(images[garment], side)
        (x0, x1), (y0, y1) = _extent(resized.max(1)), _extent(resized.max(2))
        boxes[scene, place[rows]] = np.stack([left + x0, top + y0, left + x1, top + y1], 1)
        classes[scene, place[rows]] = labels[garment]
        for pixels, s, x, y in zip(resized, scene, left, top, strict=True):
            ground = canvas[s, y : y + side, x : x + side]
            np.copyto(ground, pixels, where=pixels > 0)
    return Scenes(fashion_mnist.to_input(canvas), torch.from_numpy(boxes), torch.from_numpy(classes))


def bundled_train() -> Scenes:
    """TRAIN scenes of the bundled training images."""
    data = fashion_mnist.read_bundled()
    return compose(data["train_images"], data["train_labels"], TRAIN, seed=0)


def bundled_test() -> Scenes:
    """TEST scenes of the bundled test images."""
    data = fashion_mnist.read_bundled()
    return compose(data["test_images"], data["test_labels"], TEST, seed=0)
