"""What other libraries round to, and how each of them is asked to.

Where a library's documentation leaves a choice:

- ml_dtypes: `astype` to the type and back overflows as overflow="standard" here.
- torch: `Tensor.to`; its float8 types overflow as the standard says, but E4M3 saturates from torch 2.12 on.
- gfloat: both its rounding functions, to nearest even, with and without saturation.
- qtorch: `float_quantize(exp, man)` is documented to round to nearest even, with a bias of 2^(exp-1) and without
  subnormal numbers. Its largest value (480 for exp=4, man=3) and its smallest (2^-9 there) are those of bias
  2^(exp-1) - 1 with gradual underflow and without special values: `minifloat(exp, man, bias=2^(exp-1) - 1)`. So that is
  what it is compared with. NaN is documented as not handled; what becomes of it is shown. `fixed_point_quantize` is
  documented to take ties down, and takes them to even, with which it is compared.
- torchao: `MXTensor.to_mx(...).dequantize(float32)` in its four modes of scale, which are the policies here;
  `NVFP4Tensor` with the tensor scale that its own `per_tensor_amax_to_scale` gives. It keeps NVFP4's block scales at
  2^-6 or above, and multiplies them before the element.
- brevitas: `QuantIdentity` with its OCP quantizers, at a scale of 1; its MX quantizers with their own.
- pychop: `Chop(exp_bits, sig_bits)` and FaultChop's named formats are IEEE 754's kind, where the highest exponent is
  infinity and NaN ("q43" has emax 7: E4M3IEEE, not OCP's E4M3); `p3109_quantize` is the draft.

None of these is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import profile as profiles
from formats.conformance.blocks import BlockReference, block_reference
from formats.conformance.inputs import Inputs
from formats.conformance.reference import FixedReference, standard_reference
from formats.conformance.subject import Rounds, Subject, claimed
from formats.kinds.standard_format import StandardFormat
from formats.kinds.standards import minifloat
from formats.lookup import get
from formats.names import standard
from formats.number_format import Format
from formats.specials import NanCodes, Overflow
from numeric_formats.messages import first_line

SLOW = 300
"""Inputs in a category for functions that round one number at a time."""


def subjects_of(name: str, as_format: str | None) -> list[Subject]:
    """The roundings of a library, or those of them to one format; ValueError where there is none."""
    if name not in ADAPTERS:
        raise ValueError(f"unknown library {name!r}; known are {', '.join(ADAPTERS)}, or package.module:function")
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{name} is not installed: pip install {name}")
    try:
        module = importlib.import_module(name)
        subjects = list(ADAPTERS[name](module))
    except Exception as error:
        raise ValueError(f"{name} is installed but fails with {type(error).__name__}: {first_line(error)}") from error
    if as_format is None:
        return subjects
    digest = _saturating(claimed(as_format).format)
    chosen = [subject for subject in subjects if _saturating(subject.reference.format) == digest]
    if not chosen:
        names = sorted({subject.reference.format.name.removesuffix("/standard") for subject in subjects})
        raise ValueError(f"{name} has no rounding to {as_format}; there are {', '.join(names)}")
    return chosen


def _saturating(format: Format) -> str:
    """What tells formats apart whatever they do at overflow."""
    return format.with_overflow(Overflow.SATURATE).digest if isinstance(format, StandardFormat) else format.digest


def _not_nan(x: Inputs) -> NDArray[np.bool_]:
    return ~np.isnan(x)


def _not_negative(x: Inputs) -> NDArray[np.bool_]:
    return ~np.signbit(x) | np.isnan(x)


def _positive(x: Inputs) -> NDArray[np.bool_]:
    return (x > 0) | np.isnan(x)


_ML_DTYPES = (
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e4m3b11fnuz",
    "float8_e4m3",
    "float8_e3m4",
    "float8_e8m0fnu",
    "float6_e3m2fn",
    "float6_e2m3fn",
    "float4_e2m1fn",
    "bfloat16",
)


def _ml_dtypes(module: ModuleType) -> Iterator[Subject]:
    for name in _ML_DTYPES:
        if not hasattr(module, name):  # younger than the version that is installed
            continue
        kind, reference = getattr(module, name), standard_reference(name, Overflow.STANDARD)
        assert isinstance(reference.format, StandardFormat)
        # The types without NaN have nothing that NaN could become; they make it a zero.
        defined = _not_nan if reference.format.nan is NanCodes.NONE else None

        def cast(x: Inputs, kind: Any = kind) -> Any:
            return x.astype(kind).astype(np.float32)

        yield Subject(f"astype({name})", reference, cast, defined)


_TORCH = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16", "float16")


def _torch(module: ModuleType) -> Iterator[Subject]:
    version = tuple(int(part) for part in module.__version__.split(".")[:2])
    for name in _TORCH:
        if not hasattr(module, name):  # younger than the version that is installed
            continue
        saturates = name == "float8_e4m3fn" and version >= (2, 12)
        kind, reference = (
            getattr(module, name),
            standard_reference(name, Overflow.SATURATE if saturates else Overflow.STANDARD),
        )
        # E8M0 has neither sign nor zero; torch reads the exponent alone there.
        defined = _positive if name == "float8_e8m0fnu" else None

        def cast(x: Inputs, kind: Any = kind) -> Any:
            return module.from_numpy(x).to(kind).float().numpy()

        yield Subject(f"Tensor.to({name})", reference, cast, defined)


def _gfloat(module: ModuleType) -> Iterator[Subject]:
    formats = importlib.import_module("gfloat.formats")
    for info in formats.sample_formats:
        # binary32 and binary64 round no float32, and INT8 has -128 / 64, which has no counterpart here. Left out too is
        # E8M0: its ties go to the even code, which OCP does not ask for, and it leaves numbers below the smallest value
        # as they are.
        format = standard(info.name)
        if not isinstance(format, StandardFormat) or format.name == "E8M0":
            continue
        # Negative numbers in unsigned formats stay negative, which is no value of the format; NaN raises where there is
        # none, as documented.
        defined = _not_nan if format.nan is NanCodes.NONE else None if format.signed else _not_negative
        for overflow in Overflow:
            saturates = overflow is Overflow.SATURATE
            if not saturates and not format.infinities and format.nan is NanCodes.NONE:
                continue  # an overflow raises, as documented
            reference = FixedReference(format.with_overflow(overflow), format.top)

            def one_by_one(x: Inputs, info: Any = info, sat: bool = saturates) -> Any:
                return [module.round_float(info, value, sat=sat) for value in x.tolist()]

            def array(x: Inputs, info: Any = info, sat: bool = saturates) -> Any:
                return module.round_ndarray(info, x, sat=sat)

            suffix = f"({info.name}{', sat' if saturates else ''})"
            yield Subject(f"round_float{suffix}", reference, one_by_one, defined, SLOW)
            yield Subject(f"round_ndarray{suffix}", reference, array, defined)


def _qtorch(_: ModuleType) -> Iterator[Subject]:
    quant, torch = importlib.import_module("qtorch.quant"), importlib.import_module("torch")
    for exp, man in ((4, 3), (5, 2), (3, 4)):
        format = minifloat(exp, man, bias=(1 << (exp - 1)) - 1)

        def floating(x: Inputs, exp: int = exp, man: int = man) -> Any:
            return quant.float_quantize(torch.from_numpy(x), exp, man, "nearest").numpy()

        yield Subject(f"float_quantize({exp}, {man})", FixedReference(format, format.top), floating)
    # 8 bits of which 4 are fraction: multiples of 1/16 up to 127/16, the top binade of which is [4, 8).
    fixed = StandardFormat(profiles.fixed(8), 8, 2, 127, negative_zero=False, name="INT8, step 1/16")
    yield Subject(
        "fixed_point_quantize(8, 4, symmetric)",
        FixedReference(fixed, fixed.top),
        lambda x: quant.fixed_point_quantize(torch.from_numpy(x), 8, 4, True, True, "nearest").numpy(),
    )


def _pychop(module: ModuleType) -> Iterator[Subject]:
    for exp_bits, sig_bits, name in (
        (4, 3, "E4M3IEEE"),
        (5, 2, "E5M2"),
        (3, 4, "E3M4"),
        (8, 7, "bfloat16"),
        (5, 10, "float16"),
        (8, 10, "TF32"),
    ):
        yield Subject(
            f"Chop({exp_bits}, {sig_bits})",
            standard_reference(name, Overflow.STANDARD),
            module.Chop(exp_bits, sig_bits),
        )
    # Of its own accord it flushes bfloat16's subnormal numbers to zero, as Higham's chop does.
    for theirs, name in (("q43", "E4M3IEEE"), ("q52", "E5M2"), ("bfloat16", "bfloat16"), ("fp16", "float16")):
        yield Subject(
            f"FaultChop({theirs}, subnormal)",
            standard_reference(name, Overflow.STANDARD),
            module.FaultChop(theirs, subnormal=True),
        )
    draft = importlib.import_module("pychop.p3109")
    for precision in (1, 3, 4):
        for domain in ("finite", "extended"):
            theirs = draft.P3109Format(8, precision, True, domain)
            for overflow in Overflow:
                saturates = overflow is Overflow.SATURATE

                def quantize(x: Inputs, format: Any = theirs, saturate: bool = saturates) -> Any:
                    return draft.p3109_quantize(x, format, saturate=saturate)

                subject = f"p3109_quantize({theirs.name}{', saturate' if saturates else ''})"
                yield Subject(subject, standard_reference(theirs.name, overflow), quantize)


def _blocks(name: str) -> BlockReference:
    found = block_reference(get(name))
    assert found is not None
    return found


def _torchao(_: ModuleType) -> Iterator[Subject]:
    torch = importlib.import_module("torch")
    mx = importlib.import_module("torchao.prototype.mx_formats.mx_tensor")
    nv = importlib.import_module("torchao.prototype.mx_formats.nvfp4_tensor")
    modes = importlib.import_module("torchao.prototype.mx_formats.config").ScaleCalculationMode
    for theirs, name in (
        (torch.float8_e4m3fn, "MXFP8-E4M3"),
        (torch.float8_e5m2, "MXFP8-E5M2"),
        ("fp6_e3m2", "MXFP6-E3M2"),
        ("fp6_e2m3", "MXFP6-E2M3"),
        (torch.float4_e2m1fn_x2, "MXFP4"),
    ):
        for mode in modes:
            reference = _blocks(name if mode.value == "floor" else f"{name}/{mode.value}")

            def microscaling(x: Inputs, theirs: Any = theirs, mode: Any = mode) -> Any:
                blocks = torch.from_numpy(x).reshape(-1, 32)
                return mx.MXTensor.to_mx(blocks, theirs, 32, mode).dequantize(torch.float32).reshape(-1).numpy()

            yield Subject(f"MXTensor.to_mx({str(theirs).removeprefix('torch.')}, {mode.name})", reference, microscaling)

    def nvfp4(x: Inputs) -> Any:
        blocks = torch.from_numpy(x).reshape(-1, 16)
        scale = nv.per_tensor_amax_to_scale(blocks.abs().nan_to_num().max())
        return nv.NVFP4Tensor.to_nvfp4(blocks, per_tensor_scale=scale).dequantize(torch.float32).reshape(-1).numpy()

    yield Subject("NVFP4Tensor.to_nvfp4", _blocks("NVFP4"), nvfp4)


def _brevitas(_: ModuleType) -> Iterator[Subject]:
    torch, nn = importlib.import_module("torch"), importlib.import_module("brevitas.nn")
    single, blocks = (
        importlib.import_module("brevitas.quant.float_quant_ocp"),
        importlib.import_module("brevitas.quant.mx_quant_ocp"),
    )
    constant = importlib.import_module("brevitas.inject.enum").ScalingImplType.CONST

    def rounds(layer: Any, block: int) -> Rounds:
        layer.eval()

        def function(x: Inputs) -> Any:
            with torch.no_grad():
                result = layer(torch.from_numpy(x).reshape(-1, block))
            return getattr(result, "value", result).reshape(-1).numpy()

        return function

    for theirs, name in (("Fp8e4m3OCPActPerTensorFloat", "E4M3"), ("Fp8e5m2OCPActPerTensorFloat", "E5M2")):
        reference = standard_reference(name, Overflow.SATURATE)
        # The scale is what they are given over the largest value.
        layer = nn.QuantIdentity(
            getattr(single, theirs), scaling_impl_type=constant, scaling_init=reference.format.max(reference.top)
        )
        yield Subject(theirs, reference, rounds(layer, 1))
    for theirs, name in (("MXFloat8e4m3Act", "MXFP8-E4M3"), ("MXInt8Act", "MXINT8")):
        yield Subject(theirs, _blocks(name), rounds(nn.QuantIdentity(getattr(blocks, theirs), group_dim=-1), 32))


ADAPTERS: dict[str, Callable[[ModuleType], Iterator[Subject]]] = {
    "ml_dtypes": _ml_dtypes,
    "torch": _torch,
    "gfloat": _gfloat,
    "qtorch": _qtorch,
    "pychop": _pychop,
    "torchao": _torchao,
    "brevitas": _brevitas,
}
LIBRARIES: tuple[str, ...] = tuple(ADAPTERS)
"""Libraries whose roundings `verify` knows, whether or not they are installed."""
