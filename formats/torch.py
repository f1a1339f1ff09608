"""Rounding as a module of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from formats.lookup import get
from formats.tensors import Gradient, RoundGradient, round_tensor
from numeric_formats.checks import one_of

if TYPE_CHECKING:
    from formats.number_format import Format


class Quantize(nn.Module):
    """Rounds what passes through it: activations forward in one format, errors backward in another.

    Takes any floating dtype, shape and stride; the result has the dtype and shape of the input.

    Args:
        format: of activations, or its name; None leaves them.
        error: of errors, or its name; None leaves them.
        gradient: straight-through or clipped.

    Raises:
        ValueError: for an unknown name, or another gradient.

    >>> import torch
    >>> from formats.torch import Quantize
    >>> import formats
    >>> Quantize(formats.get("FP134"))(torch.tensor([1.03, -2.7]))
    tensor([ 1.0000, -2.7500])
    """

    def __init__(
        self,
        format: Format | str | None,
        error: Format | str | None = None,
        gradient: Gradient | str = Gradient.STRAIGHT_THROUGH,
    ) -> None:
        super().__init__()
        self.gradient = one_of("gradient", Gradient, gradient)
        self.format, self.error = (None if given is None else get(given) for given in (format, error))

    def forward(self, x: Tensor) -> Tensor:
        if self.error is not None:
            x = RoundGradient.apply(x, self.error)
        if self.format is None:
            return x
        if self.gradient is Gradient.CLIPPED:
            return round_tensor(self.format, x, top=None, gradient=self.gradient).to(x.dtype)  # type: ignore[arg-type]
        rounded: Tensor = self.format.round(x)
        return rounded.to(x.dtype)

    def extra_repr(self) -> str:
        """The names of the formats."""
        names = [getattr(entry, "name", "none") for entry in (self.format, self.error)]
        return f"format={names[0]}, error={names[1]}, gradient={self.gradient}"
