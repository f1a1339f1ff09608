"""Public image classifiers by name, with a data set of the user's: torchvision's and timm's."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workloads.data.cifar import LAYOUTS, read_cifar
from workloads.data.images import ImageSet, Preprocessing, Reader, read_folder
from workloads.metrics import accuracy, classification_loss
from workloads.public.packages import import_extra, pretrained
from workloads.weights import fill
from workloads.workload import Workload

IMAGE_DATA = f"imagefolder:PATH, {', '.join(f'{kind}[:PATH]' for kind in LAYOUTS)}"


def _unknown(package: str, name: str, names: Iterable[str]) -> ValueError:
    """The error for a name that a package does not have."""
    near = difflib.get_close_matches(name, names, n=1)
    return ValueError(f"{package} has no classifier {name!r}" + (f"; did you mean {near[0]}?" if near else ""))


def _image_set(data: str) -> ImageSet:
    """A data set from `imagefolder:PATH`, `cifar10[:PATH]` or `cifar100[:PATH]`; ValueError for anything else."""
    kind, _, place = data.partition(":")
    if kind == "imagefolder" and place:
        return read_folder(data, Path(place))
    if kind in LAYOUTS:
        return read_cifar(kind, Path(place) if place else None)
    raise ValueError(f"data {data!r}: image classifiers take {IMAGE_DATA}")


def classifier(package: str, name: str, data: str, weights: Path | None) -> Workload:
    """The network `name` of torchvision or timm as a classifier of a data set's images, resized, cropped and normalized
    as the package does for its weights.

    weights: a local file, for a network with as many outputs as the data set has classes; None: the public weights.
    Raises ImportError without the package, OSError where public weights cannot be loaded, ValueError where data,
    weights and network do not go together.
    """
    images = _image_set(data)
    network = f"{package}:{name}"
    made, preprocessing, outputs = NETWORKS[package](name, weights, len(images.classes))
    if outputs != len(images.classes):
        raise ValueError(
            f"{network} has {outputs} outputs, {data} has {len(images.classes)} classes; give data of its classes, or "
            "--weights of a network for these"
        )
    if weights is not None:
        fill(made, weights, f"{network} with {outputs} outputs, one for each class of {data}")
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train = Reader(images.train, preprocessing, data).train
    test = None if images.test is None else Reader(images.test, preprocessing, data).test
    return Workload(network, made, train, classification_loss, train=train, test=test, metric=accuracy)


def _torchvision(name: str, weights: Path | None, classes: int) -> tuple[nn.Module, Preprocessing, int]:
    models = import_extra("torchvision", "torchvision").models
    names = models.list_models(module=models)
    if name not in names:
        raise _unknown("torchvision", name, names)
    published = models.get_model_weights(name)
    # A file that has kept its public name says which of the network's weights it holds.
    chosen = next(
        (entry for entry in published if weights is not None and entry.url.endswith(f"/{weights.name}")),
        published.DEFAULT,
    )
    preset = chosen.transforms()
    [resize], [crop] = preset.resize_size, preset.crop_size
    preprocessing = Preprocessing(
        tuple(preset.mean), tuple(preset.std), resize, (crop, crop), preset.interpolation.value
    )
    if weights is not None:
        return models.get_model(name, weights=None, num_classes=classes), preprocessing, classes
    made = pretrained(f"torchvision:{name}", lambda: models.get_model(name, weights=chosen))
    return made, preprocessing, len(chosen.meta["categories"])


def _timm(name: str, weights: Path | None, classes: int) -> tuple[nn.Module, Preprocessing, int]:
    timm = import_extra("timm", "timm")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    if weights is None:
        made = pretrained(f"timm:{name}", lambda: timm.create_model(name, pretrained=True))
    else:
        made = timm.create_model(name, num_classes=classes)
    return made, _timm_preprocessing(name, timm.data.resolve_model_data_config(made)), made.num_classes


def _timm_preprocessing(name: str, config: dict[str, Any]) -> Preprocessing:
    """As timm evaluates: resized so that the crop keeps crop_pct of the shorter side, or of each side."""
    channels, height, width = config["input_size"]
    mode = config["crop_mode"]
    if channels != 3 or mode not in ("center", "squash"):
        raise ValueError(
            f"timm:{name} wants {channels} channels and the crop {mode!r}; 3 channels and center or squash are "
            "supported"
        )
    sides = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    resize = sides[0] if mode == "center" and height == width else sides
    return Preprocessing(tuple(config["mean"]), tuple(config["std"]), resize, (height, width), config["interpolation"])


NETWORKS: dict[str, Callable[[str, Path | None, int], tuple[nn.Module, Preprocessing, int]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
}
