"""What methods share that quantize weights, activations and errors at their largest magnitudes (DAI8, UI8, Octo)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from formats import Format, Rounding
from numeric_formats.checks import not_allowed, number, one_of
from training.export.layer import ExportedLayer
from training.methods.direction import Rates
from training.methods.layers import MethodLayer, chosen
from training.methods.method import About, MethodSetup, MethodState
from training.quantizers.clipped import Clipped, absmax
from training.quantizers.description import Description
from training.weights import Group


@dataclass(frozen=True)
class ErrorOptions:
    """The options that DAI8 and UI8 share.

    Args:
        format: Of weights, activations and, unless error_format is given, errors.
        error_format: Of errors; None for `format`.
        error_rounding: `stochastic` or `nearest`.
        alpha: A layer's learning rate is multiplied by max(exp(-alpha d), beta), with d the deviation of its errors.
        beta: See alpha.
        include_linear: Linear layers too.
        skip_first: Leave out the network's first layer.
        skip_last: Leave out its last one.
    """

    about: ClassVar[About]
    forward: ClassVar[bool] = True
    backward: ClassVar[bool] = True

    format: str | Format = "INT8"
    error_format: str | Format | None = None
    error_rounding: Rounding = Rounding.STOCHASTIC
    alpha: float = 20.0
    beta: float = 0.1
    include_linear: bool = True
    skip_first: bool = False
    skip_last: bool = False

    def __post_init__(self) -> None:
        name = self.about.name
        number(f"{name}: alpha", self.alpha, 0)
        number(f"{name}: beta", self.beta, 0, 1)
        object.__setattr__(
            self, "error_rounding", nearest_or_stochastic(f"{name}: error_rounding", self.error_rounding)
        )
        Clipped(self.format)
        error_quantizer(self.format, self.error_format).check_rounding(self.error_rounding)

    @property
    def digest(self) -> str:
        """The formats'."""
        return digests(self.format, self.error_format)


class ErrorState(MethodState):
    """The state in one run that DAI8 and UI8 share."""

    def __init__(self, options: ErrorOptions, setup: MethodSetup):
        super().__init__(setup)
        self._streams, self._shared = setup.streams, options
        self.quantizer = Clipped(options.format)
        self.error_quantizer = error_quantizer(options.format, options.error_format)
        self.rates = Rates(options.alpha, options.beta)
        self.meet()

    def takes(self, layer: MethodLayer) -> bool:
        return chosen(layer, self._shared.include_linear, self._shared.skip_first, self._shared.skip_last)

    def own_rate(self, parameter: str) -> Group:
        """A learning rate of its own for whatever can be a weight, also of layers that are met later."""
        owner = None if self.setup is None else self.setup.owners.get(parameter)
        return Group(own=parameter) if owner is not None and owner.ndim > 1 else Group()

    def begin_step(self) -> None:
        self.rates.clear()

    def before_update(self, rates: dict[str, dict[str, Any]]) -> None:
        self.rates.apply(rates)


def error_quantizer(format: str | Format, error_format: str | Format | None) -> Clipped:
    """The quantizer of errors: of their own format, or None for that of weights and activations."""
    return Clipped(format if error_format is None else error_format)


def digests(format: str | Format, error_format: str | Format | None) -> str:
    """Of a method's formats, as one text."""
    return "/".join(
        dict.fromkeys(str(Clipped(each).format.digest) for each in (format, error_format) if each is not None)
    )


def nearest_or_stochastic(name: str, given: Rounding | str) -> Rounding:
    """The mode; ValueError for another. name: of the option."""
    chosen, allowed = one_of(name, Rounding, given), (Rounding.NEAREST, Rounding.STOCHASTIC)
    if chosen not in allowed:
        raise not_allowed(name, chosen.value, allowed)
    return chosen


def exported_absmax(
    layers: dict[str, MethodLayer], quantizer: Clipped, described: Callable[[str], Description]
) -> list[ExportedLayer]:
    """Layers whose weights are quantized at their largest magnitude. described: how the input of a site is."""
    found = []
    for name, layer in layers.items():
        codes, scale = quantizer.encode(layer.weight, absmax(layer.weight))
        codes = layer.stored(codes)
        found.append(
            ExportedLayer(
                layer.site.layer, layer.parameter, codes, scale, quantizer.format.name, name, input=described(name)
            )
        )
    return found
