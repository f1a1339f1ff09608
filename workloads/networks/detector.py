"""A small single-shot detector without anchors, on two scales.

Sources: Z. Tian, C. Shen, H. Chen, T. He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019 (no
anchors, a head shared by the scales); T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017; the
same, "Focal Loss for Dense Object Detection", ICCV 2017 (loss of the classes, initial scores). Here one cell is
responsible for an object, that of its center.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.data.scenes import CANVAS, Scenes
from workloads.networks.average_precision import Detections, mean_average_precision, overlaps

STRIDES = (8, 16)
LONGEST = 24
"""Boxes whose longer side is at most this many pixels belong to the first scale, longer ones to the second."""
CLASSES = 10
GROUPS = 8
FOCUS, BALANCE = 2.0, 0.25
"""gamma and alpha of the focal loss."""
LEAST_SCORE, OVERLAP, PRIOR = 0.05, 0.5, 0.01


class Cells(NamedTuple):
    """The cells of both scales in the order of the output: centers (cells, 2) x, y and strides (cells,), in pixels."""

    centers: Tensor
    strides: Tensor


def cells(device: torch.device | None = None) -> Cells:
    """Those of a canvas: row by row, the first scale before the second."""
    centers, strides = [], []
    for stride in STRIDES:
        along = (torch.arange(CANVAS // stride, device=device) + 0.5) * stride
        y, x = torch.meshgrid(along, along, indexing="ij")
        centers.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((len(centers[-1]),), float(stride), device=device))
    return Cells(torch.cat(centers), torch.cat(strides))


class Scores(nn.Conv2d):
    """A convolution whose logits begin at a probability of PRIOR, so that the many cells without an object do not rule
    the first steps."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.bias is not None:
            nn.init.constant_(self.bias, math.log(PRIOR / (1 - PRIOR)))


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


class Detector(nn.Module):
    """Convolutions down to an eighth and a sixteenth of the image, a path back up, and a head that both scales share.

    Input (N, 1, CANVAS, CANVAS) float32, output (N, cells, CLASSES + 4) float32: logits of the classes, then the box by
    its center from the cell's and the logarithm of its width and height, in strides.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96), head: int = 64):
        super().__init__()
        stem, small, medium, large = widths
        self.down = nn.Sequential(
            _block(1, stem, 2),
            _block(stem, small, 2),
            _block(small, small),
            _block(small, medium, 2),
            _block(medium, medium),
        )
        self.further = nn.Sequential(_block(medium, large, 2), _block(large, large))
        self.across = nn.Conv2d(medium, head, 1)
        self.back = nn.Conv2d(large, head, 1)
        # Normalized image by image: both scales share the head, and running statistics over both would fit neither.
        self.head = nn.Sequential(nn.Conv2d(head, head, 3, 1, 1, bias=False), nn.GroupNorm(GROUPS, head), nn.SiLU())
        self.scores = Scores(head, CLASSES, 3, padding=1)
        self.boxes = nn.Conv2d(head, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        near = self.down(x)
        far = self.back(self.further(near))
        near = self.across(near) + F.interpolate(far, scale_factor=2, mode="nearest")
        outputs = []
        for level in (near, far):
            y = self.head(level)
            outputs.append(torch.cat([self.scores(y), self.boxes(y)], 1).flatten(2))
        return torch.cat(outputs, 2).transpose(1, 2)


class Targets(NamedTuple):
    """What the detector is to say of the objects of a mini-batch, one row each: scene, responsible cell, class, box as
    in its output."""

    scene: Tensor
    cell: Tensor
    classes: Tensor
    boxes: Tensor


def targets(scenes: Scenes) -> Targets:
    """Which cell is responsible for each object: of its scale, the one that its center is in."""
    scene, place = (scenes.classes >= 0).nonzero(as_tuple=True)
    box = scenes.boxes[scene, place]
    center, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    far = size.amax(1) > LONGEST
    first, second = STRIDES
    stride = torch.where(far, second, first)
    column, row = (center / stride[:, None]).long().unbind(1)
    cell = torch.where(far, (CANVAS // first) ** 2, 0) + row * (CANVAS // stride) + column
    all_cells = cells(box.device)
    encoded = torch.cat([(center - all_cells.centers[cell]) / stride[:, None], (size / stride[:, None]).log()], 1)
    return Targets(scene, cell, scenes.classes[scene, place], encoded)


def detection_loss(model: nn.Module, batch: Scenes) -> Tensor:
    """Focal loss of the classes at all cells and smooth L1 loss of the boxes at the responsible ones, each by the
    number of objects."""
    output = model(batch.images).float()
    wanted = targets(batch)
    logits, boxes = output[..., :CLASSES], output[..., CLASSES:]
    objects = max(1, len(wanted.scene))
    truth = torch.zeros_like(logits)
    truth[wanted.scene, wanted.cell, wanted.classes] = 1
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wrong = (logits.sigmoid() - truth).abs()
    weight = torch.where(truth > 0, BALANCE, 1 - BALANCE) * wrong**FOCUS
    of_boxes = F.smooth_l1_loss(boxes[wanted.scene, wanted.cell], wanted.boxes, reduction="sum", beta=0.1)
    return ((weight * entropy).sum() + of_boxes) / objects


def detect(model: nn.Module, images: Tensor) -> Detections:
    """What a detector finds in images (N, 1, CANVAS, CANVAS): boxes that overlap a surer one of their class by more
    than OVERLAP are left out."""
    with torch.no_grad():
        output = model(images)
    grid = cells(output.device)
    centers = grid.centers + output[..., CLASSES : CLASSES + 2] * grid.strides[:, None]
    sizes = output[..., CLASSES + 2 :].exp() * grid.strides[:, None]
    boxes = torch.cat([centers - sizes / 2, centers + sizes / 2], 2).cpu()
    scores = output[..., :CLASSES].sigmoid().cpu()
    scene, cell, classes = (scores >= LEAST_SCORE).nonzero(as_tuple=True)
    all_found = Detections(scene, classes, scores[scene, cell, classes], boxes[scene, cell])
    kept = [
        _surest(all_found, rows)
        for rows in torch.split(torch.arange(len(scene)), scene.bincount(minlength=len(images)).tolist())
    ]
    return Detections(*(part[torch.cat(kept)] for part in all_found))


def _surest(found: Detections, rows: Tensor) -> Tensor:
    """Those of the detections of one scene, by falling score, that do not overlap an earlier one of their class."""
    rows = rows[torch.argsort(found.scores[rows], descending=True, stable=True)]
    boxes, classes = found.boxes[rows], found.classes[rows]
    rivals = ((overlaps(boxes, boxes) > OVERLAP) & (classes[:, None] == classes)).numpy()
    kept: list[int] = []
    for number in range(len(rows)):
        if not rivals[number, kept].any():
            kept.append(number)
    return rows[kept]


def detection_precision(model: nn.Module, batch: Scenes) -> float:
    """Mean average precision at an intersection over union of 0.5; of a whole set of scenes, since it is no mean over
    parts of one."""
    return mean_average_precision(detect(model, batch.images), batch.boxes.cpu(), batch.classes.cpu())
