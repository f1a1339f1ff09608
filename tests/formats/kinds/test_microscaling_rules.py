"""The MX formats against the rules of the OCP specification and of Microsoft's emulation library, written down here on
their own.

The rules, for a block with largest magnitude m: the shared exponent is floor(log2 m) - emax, at least -127. Each
element is divided by 2^shared, rounded to a multiple of the step of its own binade (that of the smallest normal number
below it), clamped to the largest element, and multiplied again. The library rounds ties away ("nearest", its default),
to even ("even"), or cuts off ("floor").
"""

import numpy as np
import pytest

import formats

# Exponent bits, fraction bits, emax, and the largest element.
ELEMENTS = {
    "MXFP8-E4M3": (4, 3, 8, 448.0),
    "MXFP8-E5M2": (5, 2, 15, 57344.0),
    "MXFP6-E3M2": (3, 2, 4, 28.0),
    "MXFP6-E2M3": (2, 3, 2, 7.5),
    "MXFP4": (2, 1, 2, 6.0),
    "MXINT8": (0, 6, 0, 127 / 64),
}
CUT = {
    "even": (np.rint, "nearest"),
    "nearest": (lambda multiple: np.floor(multiple + 0.5), "nearest-away"),
    "floor": (np.floor, "toward-zero"),
}


def exponent_of(x):
    """floor(log2 |x|) from the bits; of 0 something very low."""
    return np.where(x == 0, -1000, np.frexp(x)[1] - 1)


def by_the_rules(x, name, mode, exponent=exponent_of):
    """The rules in float64, in which every step is exact."""
    exponent_bits, fraction_bits, emax, largest = ELEMENTS[name]
    blocks = x.reshape(-1, 32).astype(np.float64)
    shared = np.maximum(exponent(np.abs(blocks).max(axis=1, keepdims=True)) - emax, -127)
    relative = np.abs(blocks) * np.exp2(-shared)
    smallest_normal = 2 - 2 ** (exponent_bits - 1) if exponent_bits else 0
    private = np.maximum(exponent_of(relative), smallest_normal) if exponent_bits else 0
    step = np.exp2(private - float(fraction_bits))
    element = np.minimum(CUT[mode][0](relative / step) * step, largest)
    return np.copysign(element * np.exp2(shared), blocks).reshape(x.shape)


def same(a, b):
    return bool(((a == b) & (np.signbit(a) == np.signbit(b))).all())


@pytest.fixture(scope="module")
def all_bfloat16():
    """All finite bfloat16 numbers, each block of neighbours; and the same in a random order."""
    patterns = np.arange(1 << 16, dtype=np.uint32)
    x = (patterns << 16).view(np.float32)
    x = x[np.isfinite(x)]
    assert len(x) % 32 == 0
    return np.concatenate([x, np.random.default_rng(0).permutation(x)]).reshape(-1, 32)


@pytest.fixture(scope="module")
def random_blocks():
    """10^5 blocks of float32 numbers; magnitudes in a block differ by up to 2^4, 2^12 or 2^40, and every fourth block
    has few bits: ties."""
    rng = np.random.default_rng(1)
    exponents = rng.integers(-149, 128, (10**5, 1)) - rng.integers(
        0, np.array([5, 13, 41])[rng.integers(0, 3, 10**5)][:, None], (10**5, 32)
    )
    fractions = rng.integers(1 << 23, 1 << 24, exponents.shape)
    fractions[::4] &= 0xFF << 16
    x = np.ldexp(fractions / 2.0**23, exponents).astype(np.float32)
    return np.where(rng.random(x.shape) < 0.5, -x, x)


@pytest.mark.parametrize("name", ELEMENTS)
def test_agreement_to_nearest_even(name, all_bfloat16, random_blocks):
    for x in (all_bfloat16, random_blocks):
        assert same(formats.get(name).round(x), by_the_rules(x, name, "even"))


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("mode", ["nearest", "floor"])
def test_agreement_in_the_other_modes(name, mode, all_bfloat16, random_blocks):
    for x in (all_bfloat16, random_blocks[:20_000]):
        assert same(formats.get(name).round(x, rounding=CUT[mode][1]), by_the_rules(x, name, mode))


# Where the library departs from its own rules or from OCP, what is done here instead; formats/kinds/microscaling.py
# says why.


def test_even_rounding_by_adding_a_half_is_wrong_just_below_it():
    below = np.nextafter(np.float32(0.5), np.float32(0))
    # As the library does it in float32: floor(|a| + 1/2), less 1 where |a| - 1/2 is an even number.
    theirs = np.floor(below + np.float32(0.5)) - ((below - np.float32(0.5)) % 2 == 0)
    assert theirs == 1
    x = np.zeros(32, np.float32)
    x[:2] = 1, below / 64  # MXINT8 has steps of 1/64 here
    assert formats.get("MXINT8").round(x)[1] == 0


def test_a_float32_logarithm_takes_the_scale_up():
    x = np.zeros((1, 32), np.float32)
    x[0, 0] = np.nextafter(np.float32(2**10), np.float32(0))
    x[0, 1] = 48.0  # 3/8 of the scale 2^7, which goes to 1/2; 3/16 of 2^8, which goes to 0

    def logarithm(largest):
        return np.floor(np.log2(largest.astype(np.float32))).astype(int)

    theirs = by_the_rules(x, "MXFP4", "even", logarithm)
    assert logarithm(np.abs(x).max()) == 10
    assert formats.get("MXFP4").find_top(x).tolist() == [[9]]
    assert theirs[0, :2].tolist() == [1024, 0]
    assert formats.get("MXFP4").round(x)[0, :2].tolist() == [768, 64]


def test_float32_subnormals_are_kept():
    # With mx_flush_fp32_subnorms the library makes blocks of scale 2^-127 zero; not by default, and not here.
    x = np.full((1, 32), 2.0**-127, np.float32)
    assert formats.get("MXFP4").scale_codes(formats.get("MXFP4").find_top(x)).tolist() == [[0]]
    assert (formats.get("MXFP4").round(x) == x).all()


def test_nan_and_infinity():
    x = np.ones((2, 32), np.float32)
    x[0, 5], x[1, 5] = np.nan, np.inf
    # NaN: the whole block, as the library and OCP have it, once it is encoded.
    assert np.isnan(formats.get("MXFP6-E3M2").encode(x).decode()[0]).all()
    # Infinity: the library's shared exponent becomes NaN and so does the block. Here the finite numbers decide the
    # scale.
    assert formats.get("MXFP6-E3M2").round(x)[1].tolist() == [1.0] * 5 + [1.75] + [1.0] * 26
