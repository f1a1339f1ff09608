"""How good detections are: mean average precision.

Source: M. Everingham et al., "The Pascal Visual Object Classes Challenge: a Retrospective", IJCV 2015, section 4 (area
under the precision that is reached at each recall or a higher one); as in COCO, a detection may claim the best object
that no better detection has claimed.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Detections(NamedTuple):
    """What was found in a set of scenes, one row each: number of the scene, class, score (more is surer), box (N, 4) as
    x0, y0, x1, y1."""

    scene: Tensor
    classes: Tensor
    scores: Tensor
    boxes: Tensor


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (high - low).clamp(min=0).prod(2)
    of_a, of_b = ((box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (a, b))
    return common / (of_a[:, None] + of_b - common).clamp(min=1e-9)


def _claims(found: Detections, objects: list[Tensor], least: float) -> NDArray[np.bool_]:
    """Whether each detection of one class, in order of falling score, claims an object of its scene (boxes by
    scene)."""
    right = np.zeros(len(found.scene), np.bool_)
    for scene in found.scene.unique().tolist():
        rows = (found.scene == scene).nonzero()[:, 0]
        free = overlaps(found.boxes[rows], objects[scene])
        if not free.shape[1]:
            continue
        for row, number in enumerate(rows.tolist()):
            most, which = free[row].max(0)
            if most >= least:
                right[number] = True
                free[:, which] = -1
    return right


def _area(right: NDArray[np.bool_], objects: int) -> float:
    """Area under precision over recall, of detections in order of falling score."""
    hits = right.cumsum()
    precision = hits / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[right].sum() / objects)


def mean_average_precision(found: Detections, boxes: Tensor, classes: Tensor, least: float = 0.5) -> float:
    """Mean of the average precisions of all classes that have objects, 0 to 1.

    boxes: (N, M, 4), of at most M objects in each of N scenes; classes: (N, M), negative where there is none. least:
    intersection over union from which a detection is of an object. Raises ValueError where there is no object at all.
    """
    precisions = []
    for label in classes[classes >= 0].unique().tolist():
        chosen = (found.classes == label).nonzero()[:, 0]
        order = chosen[torch.argsort(found.scores[chosen], descending=True, stable=True)]
        objects = [own[of == label] for own, of in zip(boxes, classes, strict=True)]
        right = _claims(Detections(*(part[order] for part in found)), objects, least)
        precisions.append(_area(right, sum(map(len, objects))))
    if not precisions:
        raise ValueError("the scenes have no objects; average precision is of at least one")
    return float(np.mean(precisions))
