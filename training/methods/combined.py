"""Methods together: one that quantizes weights and activations, one that quantizes errors, and a compensation of
outputs (docs/definitions/methods.md section 9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from predictor.flow.sites import OneToOne, Quantizers, Site
from training.export.layer import ExportedLayer
from training.methods.compensation import Compensation, CompensationState
from training.methods.method import About, Method, MethodSetup, MethodState, NetworkInTraining
from training.methods.octo import Octo
from training.weights import Group


@dataclass(frozen=True)
class Combined:
    """Several methods at once; made by `combine`, which says which may be.

    Args:
        parts: In the order in which their hooks run.
    """

    about: ClassVar[About] = About(
        name="combined",
        weight="",
        activation="",
        error="",
        gradient="",
        granularity="",
        rounding="",
        layers="",
        source="",
    )
    forward: ClassVar[bool] = True
    backward: ClassVar[bool] = True

    parts: tuple[Method, ...]

    def start(self, setup: MethodSetup) -> CombinedState:
        """The state for one run."""
        return CombinedState(self.parts, setup)


def combine(methods: Sequence[Method]) -> Method:
    """One method out of several: a forward method (LSQ, LSQ+, SLB) with a gradient method (DAI8 or UI8), and
    compensation with any of these.

    The gradient method then quantizes errors alone.

    Args:
        methods: In any order; a single one is given back as it is.

    Raises:
        ValueError: With the reason, for what does not go together.
    """
    if len(methods) == 1:
        return methods[0]
    names = [method.about.name for method in methods]
    together = " and ".join(names)
    forward = [method for method in methods if method.forward and not method.backward]
    gradient = [method for method in methods if method.backward]
    compensation = [method for method in methods if isinstance(method, Compensation)]
    if len(set(names)) < len(names):
        raise ValueError(f"{together}: a method may be given once")
    if any(isinstance(method, Octo) for method in methods):
        raise ValueError(
            f"{together}: octo quantizes both passes and has its own compensation; "
            "use lac, ui8 or dai8 beside another method"
        )
    if len(forward) > 1:
        raise ValueError(f"{together}: both quantize the same weights; choose one of them")
    if len(gradient) > 1:
        raise ValueError(
            f"{together}: both set the thresholds of the same errors; "
            "choose one, or dai8 with direction_rate, which adds ui8's learning rates"
        )
    if compensation and not forward and not gradient:
        raise ValueError(f"{together}: there is nothing to compensate for")
    # In the order in which the hooks run.
    return Combined((*forward, *gradient, *compensation))


class CombinedState(MethodState):
    """The states of all parts. Weights and activations are the forward method's if there is one, errors the gradient
    method's."""

    def __init__(self, methods: Sequence[Method], setup: MethodSetup):
        super().__init__(setup)
        self._parts = {method.about.name: method.start(setup) for method in methods}
        forward = [method.about.name for method in methods if method.forward and not method.backward]
        # Beside a forward method, a gradient method quantizes errors alone.
        self._errors_only = {method.about.name for method in methods if method.backward} if forward else set()
        self.meet()

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for part in self._parts.values() for name, parameter in part.trained().items()}

    def site(self, site: Site) -> Quantizers | None:
        self.layer_of(site)  # remembers the late ones
        merged: Quantizers | None = None
        for name, part in self._parts.items():
            part.training, part.calibrating, part.decided = self.training, self.calibrating, self.decided
            found = part.site(site)
            if found is None:
                continue
            if name in self._errors_only:
                found = Quantizers(error=found.error)
            if merged is None:
                merged = found
            else:
                given = {
                    entry.name: value for entry in fields(found) if (value := getattr(found, entry.name)) is not None
                }
                if found.output is not None and merged.output is not None:
                    given["output"] = _after(merged.output, found.output)
                merged = replace(merged, **given)
        return merged

    def idle(self) -> list[str]:
        return [name for name, part in self._parts.items() if not part.layers]

    def remake(self, late: Sequence[Site], parameters: dict[str, Tensor]) -> None:
        for part in self._parts.values():
            part.remake(late, parameters)
        super().remake(late, {})

    def group(self, parameter: str) -> Group:
        groups = [part.group(parameter) for part in self._parts.values()]
        return Group(math.prod(g.rate for g in groups), math.prod(g.decay for g in groups), max(g.own for g in groups))

    def begin_epoch(self, epoch: int) -> None:
        for part in self._parts.values():
            part.begin_epoch(epoch)

    def end_epoch(self, epoch: int, network: NetworkInTraining) -> None:
        for part in self._parts.values():
            part.end_epoch(epoch, network)

    def begin_step(self) -> None:
        for part in self._parts.values():
            part.begin_step()

    def penalty(self) -> Tensor | None:
        given = [penalty for part in self._parts.values() if (penalty := part.penalty()) is not None]
        return torch.stack(given).sum() if given else None

    def before_update(self, rates: dict[str, dict[str, Any]]) -> None:
        for part in self._parts.values():
            part.before_update(rates)

    def end_step(self) -> None:
        for part in self._parts.values():
            part.end_step()

    def tensors(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": tensor for name, part in self._parts.items() for key, tensor in part.tensors().items()}

    def state(self) -> dict[str, Any]:
        return {name: part.state() for name, part in self._parts.items()}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        for name, part in self._parts.items():
            own = {
                key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")
            }
            part.restore(own, state[name])

    def exported(self) -> list[ExportedLayer]:
        found = [
            entry for name, part in self._parts.items() if name not in self._errors_only for entry in part.exported()
        ]
        for part in self._parts.values():
            if isinstance(part, CompensationState):
                added = {name: part.added(layer).detach() for name, layer in part.layers.items()}
                found = [replace(entry, added=added.pop(entry.site or "", None)) for entry in found]
                if added:
                    raise ValueError(
                        f"lac: {', '.join(added)} have a compensation and no codes; quantize these layers too"
                    )
        return found


def _after(first: OneToOne, second: OneToOne) -> OneToOne:
    return lambda y: second(first(y))
