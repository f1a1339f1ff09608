"""Verilog of what surrounds a multiply-accumulate lane (formats/hardware/periphery.py), one module a part.

A number that is handed on has a sign, SIGNIFICAND_BITS with the leading one on top (0 for zero), a bit that says
whether anything was lost below them, and an exponent, that of the leading one.
"""

from __future__ import annotations

import math

from formats.hardware.periphery import EXPONENT_BITS, SIGNIFICAND_BITS, Rounded, Searched, Section, Target
from formats.hardware.verilog_text import constant, float_accumulator, module, shifted_right, shifted_to_top, vector

NUMBER = ("input negative", f"input {vector(SIGNIFICAND_BITS)} significand", "input inexact")
_TOP = SIGNIFICAND_BITS - 1


def adder(bits: int, name: str) -> str:
    """The sum of two exponents."""
    ports = [f"input {vector(bits)} a", f"input {vector(bits)} b", f"output {vector(bits + 1)} sum"]
    return module(name, ports, ["assign sum = {1'd0, a} + b;"])


def multiplier(a: int, b: int, name: str) -> str:
    """The product of two significands."""
    ports = [f"input {vector(a)} a", f"input {vector(b)} b", f"output {vector(a + b)} product"]
    return module(name, ports, ["assign product = a * b;"])


def normalizer(width: int, name: str) -> str:
    """A register's signed sum, in units of 2^unit, as a number that is handed on."""
    wide = max(width, SIGNIFICAND_BITS + 1)
    ports = [f"input {vector(width)} sum", f"input {vector(EXPONENT_BITS)} unit", "output negative"]
    ports += [f"output {vector(SIGNIFICAND_BITS)} significand", "output inexact"]
    ports.append(f"output {vector(EXPONENT_BITS)} exponent")
    padding = f", {wide - width}'d0" if wide > width else ""
    lines, result, places = shifted_to_top("magnitude", wide)
    below = wide - SIGNIFICAND_BITS
    body = [
        f"assign negative = sum[{width - 1}];",
        f"wire {vector(width)} absolute = (sum ^ {{{width}{{negative}}}}) + negative;",
        f"wire {vector(wide)} magnitude = {{absolute{padding}}};",
        *lines,
        f"assign significand = {result}[{wide - 1}:{below}];",
        f"assign inexact = {result}[{below - 1}:0] != {below}'d0;",
        f"assign exponent = unit + {constant(width - 1, EXPONENT_BITS)} - {places};",
    ]
    return module(name, ports, body)


def quantizer(of: Target, name: str) -> str:
    """A number that is handed on, rounded to nearest, saturated, as the code of an element; its exponent is relative to
    the scale."""
    return _rounder(of, name) if isinstance(of, Rounded) else _searcher(of, name)


def _rounder(of: Rounded, name: str) -> str:
    p, magnitude_bits = of.precision, of.bits - 1
    # An index, or one that is too large: what is above the top binade comes from 1 + the largest precision.
    width = max(magnitude_bits, p) + 2
    kept = p + 1
    shifts, shifted, lost = shifted_right("given", kept, "drop", (p + 1).bit_length())
    drops = (p + 1).bit_length()
    drop = f"low ? {constant(p + 1, drops)} : {constant(p - 1, drops)} - level[{drops - 1}:0]"
    offset = constant(0, width)
    body = [
        f"wire {vector(EXPONENT_BITS)} level = exponent + {constant(of.binades - 1, EXPONENT_BITS)};",
        f"wire below = level[{EXPONENT_BITS - 1}];",
        # The two binades below the lowest can still round up to a value.
        f"wire low = below & (level != {constant(-1, EXPONENT_BITS)});",
        f"wire over = ~below & (level >= {constant(of.binades, EXPONENT_BITS)});",
    ]
    for number, section in enumerate(of.sections):
        body.append(f"wire in{number} = ~below & (level >= {constant(section.first, EXPONENT_BITS)});")
        drop = f"in{number} ? {constant(p - section.precision, drops)} : ({drop})"
        offset = f"in{number} ? {_offset(section, width)} : ({offset})"
    body += [
        f"wire {vector(drops)} drop = {drop};",
        f"wire {vector(kept)} given = significand[{_TOP}:{SIGNIFICAND_BITS - kept}];",
        f"wire rest = inexact | (significand[{_TOP - kept}:0] != {SIGNIFICAND_BITS - kept}'d0);",
        *shifts,
        f"wire up = {shifted}[0] & ({lost} | rest | {shifted}[1]);",
        f"wire {vector(width)} offset = {offset};",
        f"wire {vector(width)} index = offset + {shifted}[{kept - 1}:1] + up;",
        f"wire {vector(width)} most = {constant(of.most, width)};",
        f"wire many = significand[{_TOP}] & (over | (index >= most));",
        f"wire {vector(magnitude_bits)} chosen = many ? most[{magnitude_bits - 1}:0] : "
        f"index[{magnitude_bits - 1}:0] & {{{magnitude_bits}{{significand[{_TOP}]}}}};",
    ]
    return module(name, _ports(of.bits), [*body, *_signed(of.bits, of.two_complement, of.minus_zero)])


def _offset(section: Section, width: int) -> str:
    """What a significand lacks to be an index, at a level within a section."""
    places = section.precision - 1
    fixed = section.start - (section.first << places) - (1 << places)
    level = f"level[{min(width - places, EXPONENT_BITS) - 1}:0]"
    return (
        f"({{{level}, {places}'d0}} + {constant(fixed, width)})" if places else f"({level} + {constant(fixed, width)})"
    )


def _signed(bits: int, two_complement: bool, minus_zero: bool) -> list[str]:
    """Lines that give the magnitude `chosen` its sign."""
    sign = "negative" if minus_zero else f"(negative & (chosen != {bits - 1}'d0))"
    if two_complement:
        return [f"assign code = ({{1'd0, chosen}} ^ {{{bits}{{negative}}}}) + negative;"]
    return [f"assign code = {{{sign}, chosen}};"]


def _ports(bits: int) -> list[str]:
    return [*NUMBER, f"input {vector(EXPONENT_BITS)} exponent", f"output {vector(bits)} code"]


def _searcher(of: Searched, name: str) -> str:
    """A comparison with every boundary; how many are passed is the index."""
    width = EXPONENT_BITS + SIGNIFICAND_BITS + 1
    half = constant(1 << (EXPONENT_BITS - 1), EXPONENT_BITS)
    body = [
        f"wire some = significand[{_TOP}];",
        f"wire {vector(EXPONENT_BITS)} lifted = (exponent ^ {half}) & {{{EXPONENT_BITS}{{some}}}};",
        f"wire {vector(width)} key = {{lifted, significand, inexact}};",
    ]
    for number, step in enumerate(of.steps):
        if of.signed or step > 0:
            passed = f"key >= {constant(_key(step), width)}"
            passed = passed if of.signed else f"~negative & ({passed})"
        else:
            passed = f"~negative | ~(key >= {constant(_key(-step, up=False) + 1, width)})"
        body.append(f"wire pass{number} = {passed};")
    index_bits = of.bits - 1 if of.signed else of.bits
    bits = []
    for bit in range(index_bits):
        # Of ascending comparisons an even number, or an odd one, has passed.
        at = range((1 << bit) - 1, len(of.steps), 1 << bit)
        bits.append(" ^ ".join(f"pass{number}" for number in at) or "1'd0")
    body.append(f"wire {vector(index_bits)} chosen = {{{', '.join(reversed(bits))}}};")
    signed = _signed(of.bits, of.two_complement, not of.zero) if of.signed else ["assign code = chosen;"]
    return module(name, _ports(of.bits), [*body, *signed])


def _key(value: float, up: bool = True) -> int:
    """Exponent, significand and lost bit of a magnitude as one number; the next above where they do not hold it, or the
    next below."""
    if value == 0:
        return 0
    fraction, exponent = math.frexp(value)
    exponent -= 1
    if exponent < -(1 << (EXPONENT_BITS - 1)):
        return 1  # whatever is not zero
    scaled = math.ldexp(fraction, SIGNIFICAND_BITS + 1)
    whole = math.ceil(scaled) if up else math.floor(scaled)
    return ((exponent + (1 << (EXPONENT_BITS - 1))) << (SIGNIFICAND_BITS + 1)) + whole


def largest_register(bits: int, name: str) -> str:
    """The largest magnitude of a group so far."""
    ports = ["input clock", "input clear", f"input {vector(bits)} given", f"output reg {vector(bits)} largest"]
    body = ["wire take = clear | (given >= largest);"]
    body.append("always @(posedge clock) largest <= take ? given : largest;")
    return module(name, ports, body)


def outer_accumulator(name: str) -> str:
    """A floating-point adder with a register, for what groups give."""
    return float_accumulator(SIGNIFICAND_BITS, EXPONENT_BITS, SIGNIFICAND_BITS, name)


def divider(bits: int, name: str) -> str:
    """The reciprocal of a significand, a bit a clock: of a divisor d of so many bits with the leading one on top, after
    `bits` clocks the whole part of (2^(2 bits - 1) - 1) / d."""
    ports = ["input clock", "input start", f"input {vector(bits)} divisor", f"output reg {vector(bits)} quotient"]
    body = [
        f"reg {vector(bits)} remainder;",
        f"wire {vector(bits + 1)} twice = {{remainder, 1'd1}};",
        "wire fits = twice >= divisor;",
        f"wire {vector(bits + 1)} less = twice - divisor;",
        "always @(posedge clock) begin",
        f"  remainder <= start ? {constant((1 << (bits - 1)) - 1, bits)} : fits ? less[{bits - 1}:0] : "
        f"twice[{bits - 1}:0];",
        f"  quotient <= {{quotient[{bits - 2}:0], fits}};",
        "end",
    ]
    return module(name, ports, body)


def weight_register(bits: int, name: str) -> str:
    """Where the code of a weight waits."""
    ports = ["input clock", "input load", f"input {vector(bits)} given", f"output reg {vector(bits)} weight"]
    return module(name, ports, ["always @(posedge clock) weight <= load ? given : weight;"])
