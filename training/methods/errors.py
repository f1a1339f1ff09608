"""What the methods share that quantize weights, activations and errors with one format (DAI8, UI8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from formats import Format, Rounding
from numeric_formats.checks import number
from training.methods.direction import Rates
from training.methods.method import About, Run, Setup, chosen_layers, digests, error_quantizer, error_rounding
from training.quantizers.clipped import Clipped


@dataclass(frozen=True)
class ErrorOptions:
    """Options of DAI8 and UI8.

    format: of weights, activations and, unless error_format is given, errors. error_rounding: stochastic or nearest.
    alpha, beta: a layer's learning rate is multiplied by max(exp(-alpha d), beta). include_linear, skip_first,
    skip_last: which layers.
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
        object.__setattr__(self, "error_rounding", error_rounding(name, self.error_rounding))
        Clipped(self.format)
        error_quantizer(self.format, self.error_format).check_rounding(self.error_rounding)

    @property
    def digest(self) -> str:
        """The formats'."""
        return digests(self.format, self.error_format)


class ErrorRun(Run):
    """Their state in one run."""

    def __init__(self, options: ErrorOptions, setup: Setup):
        super().__init__()
        self._streams = setup.streams
        self.layers = chosen_layers(setup, options.include_linear, options.skip_first, options.skip_last)
        self.quantizer = Clipped(options.format)
        self.error_quantizer = error_quantizer(options.format, options.error_format)
        self.rates = Rates(options.alpha, options.beta)

    def begin_step(self) -> None:
        self.rates.clear()

    def before_update(self, rates: dict[str, dict[str, Any]]) -> None:
        self.rates.apply(rates)
