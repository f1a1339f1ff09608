"""Exported files, read back: a network that computes as evaluation did, in plain float32, and quantizes at products."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import formats
from predictor.flow.dataflow import DataFlow
from predictor.flow.layers import unwrapped
from predictor.flow.sites import OneToOne, Quantizers, Site
from training.export.probe import check_probe
from training.quantizers.clipped import Clipped
from training.quantizers.description import from_plain
from workloads.containers import map_tensors
from workloads.copies import copied
from workloads.minibatches import HALVES

LAYERS = "layers"
"""Key of the metadata: a JSON list of layers."""
ALIASES = "aliases"
"""Key of the metadata: a JSON object, by the other names of a tensor that a network has under several."""

PROBE = "probe"
"""Key of the metadata: a JSON object, what the network gives for an input (`training.export.probe`)."""


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """A product as a file describes it; see `training.export.layer.ExportedLayer`.

    Attributes:
        layer: Name of the module that it is in.
        site: Its own name, or None for every product of the layer.
        parameter: Name of the weight.
        weight: Its values, decoded.
        input: What quantizes what it reads, or None.
        output: The same of what it gives.
        added: What is added to that before, or None.
    """

    layer: str
    site: str | None
    parameter: str
    weight: Tensor
    input: OneToOne | None
    output: OneToOne | None
    added: Tensor | None


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds.

    Attributes:
        name: Of the file.
        layers: The products.
        tensors: All other parameters and buffers, by name.
        aliases: Other names of theirs and of the weights.
        probe: What the network gave for an input, or None.
    """

    name: str
    layers: tuple[StoredLayer, ...]
    tensors: Mapping[str, Tensor]
    aliases: Mapping[str, str]
    probe: dict[str, Any] | None


Around = Callable[[Site, Quantizers | None], Quantizers | None]


def load(path: Path | str, model: nn.Module) -> nn.Module:
    """A copy of a network with exported weights, in evaluation mode, that computes in plain float32.

    What its products read, and give, is quantized at the products themselves, wherever in a module they stand.

    Args:
        path: Of the file.
        model: A network of the same class.

    Raises:
        ValueError: Where the file is none, or does not fit.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except SafetensorError as error:
        raise ValueError(f"{path} is cut short or no export ({error})") from None
    return filled(stored(str(path), metadata, tensors), model)


def stored(name: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Stored:
    """What the metadata and tensors of a file mean. Raises ValueError where they are no export's."""
    used: set[str] = set()

    def tensor(key: str | None) -> Tensor | None:
        if key is None:
            return None
        used.add(key)
        return tensors[key]

    try:
        layers = tuple(
            StoredLayer(
                str(row["layer"]),
                None if row["site"] is None else str(row["site"]),
                str(row["parameter"]),
                _decoded(row["code"], tensors[row["codes"]], tensors[row["scale"]], tensor(row["table"])),
                _quantizer(row["input"]),
                _quantizer(row["output"]),
                tensor(row["added"]),
            )
            for row in json.loads(metadata[LAYERS])
        )
        probe = json.loads(metadata[PROBE])
        aliases = {str(key): str(value) for key, value in json.loads(metadata[ALIASES]).items()}
        for row in json.loads(metadata[LAYERS]):
            used |= {row["codes"], row["scale"], row["folded_bias"]}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} is cut short or no export ({type(error).__name__}: {error})") from None
    return Stored(name, layers, {key: value for key, value in tensors.items() if key not in used}, aliases, probe)


def _decoded(code: str, codes: Tensor, scale: Tensor, table: Tensor | None) -> Tensor:
    """The weight that codes stand for."""
    if codes.dtype not in (torch.uint8, torch.int8) or not scale.is_floating_point():
        raise ValueError(f"codes of {codes.dtype} and a scale of {scale.dtype}")
    if code == "integer":
        found = codes.to(scale.dtype) * scale
    elif code == "table":
        if table is None or codes.dtype != torch.uint8:
            raise ValueError("a table and unsigned codes are needed")
        found = table[codes.long()] * scale
    else:
        found = Clipped(formats.get(code, files=False)).decode(codes, scale)
    if found.shape != codes.shape:
        raise ValueError(f"a scale of shape {tuple(scale.shape)} for codes of {tuple(codes.shape)}")
    return found


def _quantizer(plain: dict[str, Any] | None) -> OneToOne | None:
    described = from_plain(plain)
    return None if described is None else described.quantizer()


def filled(held: Stored, model: nn.Module, around: Around = lambda _, quantizers: quantizers) -> nn.Module:
    """A copy of a network that computes what a file says. Raises ValueError where the file does not fit it.

    around: gives what is done at a product in place of what the file says.
    """
    model = copied(unwrapped(model)).eval()
    names = _names(model)
    owner = {name: group[0] for group in names.values() for name in group}
    weights: dict[str, Tensor] = {}
    for layer in held.layers:
        weights.setdefault(owner.get(layer.parameter, layer.parameter), layer.weight)
    values = {owner.get(name, name): value for name, value in held.tensors.items()}
    values |= {owner.get(a, a): values[owner.get(b, b)] for a, b in held.aliases.items() if owner.get(b, b) in values}
    coded = {owner.get(a, a): weights[owner.get(b, b)] for a, b in held.aliases.items() if owner.get(b, b) in weights}
    _check_fits(held, model, names, {**weights, **coded, **values})
    with torch.no_grad():
        for name, own in _tensors(model).items():
            found = values.get(name, weights.get(name, coded.get(name)))
            if found is not None and found.shape == own.shape:
                own.copy_(found)
    kept = {name: weight for name, weight in weights.items() if name not in values}
    sites = _Sites(held, model, owner, kept)
    made = _at_products(model, lambda site: around(site, sites(site)))
    if held.probe is not None:
        check_probe(held.name, held.probe, made)
    return made


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _names(model: nn.Module) -> dict[int, list[str]]:
    """All names of every parameter and buffer, the first one first."""
    found: dict[int, list[str]] = defaultdict(list)
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            found[id(tensor)].append(name)
    return found


def aliases_of(model: nn.Module) -> dict[str, str]:
    """The other names of parameters and buffers that a network has under several, each with the first."""
    return {name: first for first, *others in _names(model).values() for name in others}


def _check_fits(held: Stored, model: nn.Module, names: dict[int, list[str]], found: Mapping[str, Tensor]) -> None:
    own = _tensors(model)
    lasting = model.state_dict().keys()
    needed = [group[0] for group in names.values() if any(name in lasting for name in group)]
    halves = [f"{name} in {own[name].dtype}" for name in needed if own[name].dtype in HALVES]
    if halves:
        raise ValueError(f"{held.name}: the network has {halves[0]}; load it into one in float32")
    extra = [name for name in lasting if name not in own and name not in {n for g in names.values() for n in g}]
    if extra:
        raise ValueError(f"{held.name}: the network has {extra[0]}, state that is no tensor, and exports hold none")
    missing = [name for name in needed if name not in found or found[name].shape != own[name].shape]
    if missing:
        raise ValueError(
            f"{held.name} has no {', '.join(missing)} of the network's shape; it is an export of another network"
        )
    unknown = [name for name in found if name not in own]
    modules = dict(model.named_modules())
    unknown += [f"layer {layer.layer}" for layer in held.layers if layer.layer not in modules]
    if unknown:
        raise ValueError(
            f"{held.name} has {', '.join(unknown[:3])}{' and others' if len(unknown) > 3 else ''}, which the network "
            "has not; it is an export of another network"
        )


class _Sites:
    """What is done at each product of a loaded network."""

    def __init__(self, held: Stored, model: nn.Module, owner: Mapping[str, str], coded: Mapping[str, Tensor]):
        self._name, self._owner, self._coded = held.name, owner, coded
        tensors = _tensors(model)
        self._by_site: dict[str, Quantizers] = {}
        self._by_layer: dict[str, Quantizers] = {}
        for layer in held.layers:
            name = owner[layer.parameter]
            # A weight that has other uses too is there in float32, and quantized at its products.
            there = name in coded and torch.equal(coded[name], layer.weight)
            own = None if there else _in_place_of(tensors[name], layer.weight)
            made = Quantizers(layer.input, own, _after(layer))
            if layer.site is None:
                self._by_layer[layer.layer] = made
            else:
                self._by_site[layer.site] = made

    def __call__(self, site: Site) -> Quantizers | None:
        found = self._by_site.get(site.name, self._by_layer.get(site.layer))
        weight = None if site.parameter is None else self._owner.get(site.parameter)
        if found is None and weight in self._coded:
            raise ValueError(
                f"{self._name} does not say how {site.name} computes with {weight}, of which it has codes alone; it is "
                "an export of another network"
            )
        return found


def _in_place_of(parameter: Tensor, weight: Tensor) -> OneToOne:
    """Gives a weight's values where a product has the parameter, or a view of it."""
    values = torch.empty_like(parameter, requires_grad=False).copy_(weight.to(parameter.dtype))
    begin = parameter.storage_offset()

    def swap(given: Tensor) -> Tensor:
        return values.to(given.device).as_strided(given.size(), given.stride(), given.storage_offset() - begin)

    return swap


def _after(layer: StoredLayer) -> OneToOne | None:
    """What happens to a product."""
    if layer.added is None:
        return layer.output

    def change(y: Tensor) -> Tensor:
        added = layer.added
        assert added is not None
        if added.ndim == y.ndim:  # values for each element of a mini-batch
            if len(y) > len(added):
                raise ValueError(
                    f"layer {layer.layer} adds values for mini-batches of {len(added)}, not of {len(y)}, to its output"
                )
            added = added[: len(y)]
        y = y + added.to(y.device)
        return y if layer.output is None else layer.output(y)

    return change


def _at_products(model: nn.Module, site: Callable[[Site], Quantizers | None]) -> nn.Module:
    """The network, which from now on quantizes at its products whenever it is called, and is in all else what it
    was."""
    kind = type(model)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.__dict__.get("_quantizing"):  # the network calls itself
            return kind.__call__(self, *args, **kwargs)
        flow = DataFlow(self)
        # As in evaluation: what comes from the input through scripted code shows in what needs a gradient.
        flow.site, flow.pointed, flow.evaluation = site, False, not torch.is_grad_enabled()
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):
                args, kwargs = map_tensors(Tensor.clone, args), map_tensors(Tensor.clone, kwargs)
        self.__dict__["_quantizing"] = True
        try:
            with flow:
                return kind.__call__(self, *args, **kwargs)
        finally:
            del self.__dict__["_quantizing"]

    # A class of its own, and no hooks: copies of the network keep the class.
    model.__class__ = type(kind.__name__, (_Plain, kind), {"__call__": call, "__module__": kind.__module__})
    return model


class _Plain:
    """Keeps the network's class from asking anything of one that is made from it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        pass
