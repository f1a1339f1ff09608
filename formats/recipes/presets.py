"""The recipes that have a name: one row each (docs/definitions/recipes.md section 2)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

TE = "Transformer Engine"
OCP = "OCP MX, version 1.0"
NVIDIA = "NVIDIA, arXiv:2509.25149"


class Preset(NamedTuple):
    """A row: the arguments of `formats.recipe`, and whose recipe it is."""

    name: str
    x: str
    w: str
    dy: str
    whose: str
    also: Mapping[str, Any] = MappingProxyType({})


STOCHASTIC_ERRORS = {"dgrad": {"rounding": {"dy": "stochastic"}}, "wgrad": {"rounding": {"dy": "stochastic"}}}
TRANSFORMED = STOCHASTIC_ERRORS | {"wgrad": {"rounding": {"dy": "stochastic"}, "hadamard": 16}}

ROWS = (
    Preset("bf16", x="bfloat16", w="bfloat16", dy="bfloat16", whose="the baseline that everyone has"),
    Preset("fp8-tensor", x="E4M3/real", w="E4M3/real", dy="E5M2/real", whose=f"{TE}, current scaling, HYBRID"),
    Preset("fp8-tensor-e4m3", x="E4M3/real", w="E4M3/real", dy="E4M3/real", whose=f"{TE}, current scaling, E4M3"),
    Preset(
        "fp8-delayed", x="E4M3/real", w="E4M3/real", dy="E5M2/real", whose=f"{TE}, delayed scaling",
        also={"history": "all"},
    ),
    Preset("fp8-row", x="E4M3/real/row", w="E4M3/real/row", dy="E4M3/real/row", whose="torchao, rowwise"),
    Preset(
        "fp8-row-hp", x="E4M3/real/row", w="E4M3/real/row", dy="E4M3/real/row", whose="torchao, rowwise_with_gw_hp",
        also={"wgrad": {"dy": "bfloat16", "x": "bfloat16"}},
    ),
    Preset(
        "fp8-block", x="E4M3/real/block128", w="E4M3/real/tile128x128", dy="E4M3/real/block128",
        whose=f"DeepSeek-V3; {TE}, Float8BlockScaling",
    ),
    Preset(
        "fp8-block-pow2", x="E4M3/block128/rceil", w="E4M3/tile128x128/rceil", dy="E4M3/block128/rceil",
        whose=f"{TE}, Float8BlockScaling, powers of two",
    ),
    Preset("mxfp8", x="MXFP8-E4M3", w="MXFP8-E4M3", dy="MXFP8-E4M3", whose=OCP),
    Preset("mxfp8-e5m2", x="MXFP8-E4M3", w="MXFP8-E4M3", dy="MXFP8-E5M2", whose=OCP),
    Preset("mxfp6-e2m3", x="MXFP6-E2M3", w="MXFP6-E2M3", dy="MXFP6-E2M3", whose=OCP),
    Preset("mxfp6-e3m2", x="MXFP6-E3M2", w="MXFP6-E3M2", dy="MXFP6-E3M2", whose=OCP),
    Preset("mxfp4", x="MXFP4", w="MXFP4", dy="MXFP4", whose=OCP),
    Preset("nvfp4-1d", x="NVFP4", w="NVFP4", dy="NVFP4", whose="NVFP4 in blocks of 16 alone"),
    Preset("nvfp4-2d", x="NVFP4", w="NVFP4/tile16x16", dy="NVFP4", whose="with weights in tiles"),
    Preset(
        "nvfp4-2d-sr", x="NVFP4", w="NVFP4/tile16x16", dy="NVFP4", whose="with errors rounded stochastically",
        also=STOCHASTIC_ERRORS,
    ),
    Preset("nvfp4", x="NVFP4", w="NVFP4/tile16x16", dy="NVFP4", whose=NVIDIA, also=TRANSFORMED),
    Preset(
        "lee-fp134", x="FP134/headroom1", w="FP134/headroom1", dy="FP134/headroom1",
        whose="Lee, Park, Jeon, ICLR 2022: their format",
    ),
)  # fmt: skip
PRESETS = {row.name: row for row in ROWS}
BASELINE = "bf16"
"""What every recipe is compared with: what lies at its angle is free."""
