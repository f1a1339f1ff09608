"""The standard formats outside the 498, as their standards give them: one row each.

With exponent field E and fraction F a value is 2^(E - bias) * 1.F, and 2^(1 - bias) * 0.F where E is 0. All codes that
`nan` and `infinities` do not take are finite values. What lies beyond the largest of them saturates, or becomes
infinity or else NaN where a caller asks for it ("E4M3/standard"; formats/specials.py).

Where peers differ, and what is done here:

- One-bit significands: ml_dtypes and torch take E8M0's ties up, gfloat to the even code. E8M0 goes up; P3109 follows
  its draft (even code).
- Between E8M0's two smallest values, 2^-127 and 2^-126, ml_dtypes and torch go up from every number above 2^-127, the
  nearer ones too. So does E8M0 here. gfloat goes to nearest there, and leaves smaller numbers as they are.
- E8M0 of zero and of negative numbers is NaN in ml_dtypes and here; torch drops the sign, and zero becomes 2^-127.
- torch's cast to E4M3 saturates (since 2.12), infinities too; its other float8 casts overflow as here with
  overflow="standard".
- NaN encodes as the quiet NaN of its sign, as in ml_dtypes (E5M2: 0x7E); torch writes 0x7F for E5M2.
- The types without NaN saturate in ml_dtypes, and here whatever `overflow` says. NaN becomes a zero of the opposite
  sign in ml_dtypes; here it stays NaN in `round` and is an error in `encode`.
- Negative numbers in P3109's unsigned formats stay negative in gfloat; here they become zero, or NaN with
  overflow="standard".
- ml_dtypes converts float64 through float32 and so rounds twice; here it is rounded once.
"""

from typing import NamedTuple

from formats.specials import NanCodes

OFP8 = "OCP 8-bit Floating Point Specification (OFP8), revision 1.0"
MX = "OCP Microscaling Formats (MX) Specification, version 1.0"
IEEE = "IEEE 754-2019"
ML_DTYPES = "ml_dtypes 0.6"
TF32 = "NVIDIA A100 Tensor Core GPU Architecture, 2020"
PAPER = "S. Lee, J. Park, D. Jeon, ICLR 2022: the master format"


class Standard(NamedTuple):
    """A row: widths of the exponent and fraction fields, the bias, and what the special codes are.

    signed: whether there is a sign bit. zero: whether code 0 is zero, not the smallest power of two. also: other names.
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int
    nan: NanCodes
    infinities: bool
    source: str
    also: str = ""
    signed: bool = True
    zero: bool = True


ROWS = (
    Standard(
        name="E4M3", exponent_bits=4, fraction_bits=3, bias=7, nan=NanCodes.ONE, infinities=False,
        source=OFP8, also="E4M3FN float8_e4m3fn fp8_e4m3 ocp_e4m3",
    ),
    Standard(
        name="E5M2", exponent_bits=5, fraction_bits=2, bias=15, nan=NanCodes.IEEE, infinities=True,
        source=OFP8, also="float8_e5m2 fp8_e5m2 ocp_e5m2",
    ),
    Standard(
        name="E4M3FNUZ", exponent_bits=4, fraction_bits=3, bias=8, nan=NanCodes.MINUS_ZERO, infinities=False,
        source=ML_DTYPES, also="float8_e4m3fnuz",
    ),
    Standard(
        name="E5M2FNUZ", exponent_bits=5, fraction_bits=2, bias=16, nan=NanCodes.MINUS_ZERO, infinities=False,
        source=ML_DTYPES, also="float8_e5m2fnuz",
    ),
    Standard(
        name="E4M3B11FNUZ", exponent_bits=4, fraction_bits=3, bias=11, nan=NanCodes.MINUS_ZERO, infinities=False,
        source=ML_DTYPES, also="float8_e4m3b11fnuz",
    ),
    Standard(
        name="E4M3IEEE", exponent_bits=4, fraction_bits=3, bias=7, nan=NanCodes.IEEE, infinities=True,
        source=ML_DTYPES, also="float8_e4m3",
    ),
    Standard(
        name="E3M4", exponent_bits=3, fraction_bits=4, bias=3, nan=NanCodes.IEEE, infinities=True,
        source=ML_DTYPES, also="float8_e3m4",
    ),
    Standard(
        name="E3M2", exponent_bits=3, fraction_bits=2, bias=3, nan=NanCodes.NONE, infinities=False,
        source=MX, also="E3M2FN float6_e3m2fn fp6_e3m2 ocp_e3m2",
    ),
    Standard(
        name="E2M3", exponent_bits=2, fraction_bits=3, bias=1, nan=NanCodes.NONE, infinities=False,
        source=MX, also="E2M3FN float6_e2m3fn fp6_e2m3 ocp_e2m3",
    ),
    Standard(
        name="E2M1", exponent_bits=2, fraction_bits=1, bias=1, nan=NanCodes.NONE, infinities=False,
        source=MX, also="E2M1FN float4_e2m1fn fp4_e2m1 ocp_e2m1",
    ),
    Standard(
        name="E8M0", exponent_bits=8, fraction_bits=0, bias=127, nan=NanCodes.ONE, infinities=False,
        signed=False, zero=False, source=MX, also="E8M0FNU float8_e8m0fnu ocp_e8m0",
    ),
    Standard(
        name="FP169", exponent_bits=6, fraction_bits=9, bias=31, nan=NanCodes.NONE, infinities=False,
        source=PAPER,
    ),
    Standard(
        name="bfloat16", exponent_bits=8, fraction_bits=7, bias=127, nan=NanCodes.IEEE, infinities=True,
        source=ML_DTYPES, also="bf16",
    ),
    Standard(
        name="float16", exponent_bits=5, fraction_bits=10, bias=15, nan=NanCodes.IEEE, infinities=True,
        source=IEEE, also="fp16 half binary16",
    ),
    Standard(
        name="TF32", exponent_bits=8, fraction_bits=10, bias=127, nan=NanCodes.IEEE, infinities=True,
        source=TF32, also="tensorfloat32",
    ),
)  # fmt: skip
