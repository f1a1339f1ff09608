"""Verilog of a multiply-accumulate lane: two decoders, a multiplier, an aligner and an accumulator, combinational up to the register.

Verilog-2001 without parameters or memories, for synthesis and for reading; what each part does is said in search/lane.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from formats import Format
from predictor.gradient import Candidate, candidate, formats_of
from search.lane import Lane, Operand, operand


def lane(a: Format, b: Format, name: str = "lane") -> str:
    """The modules NAME_decode_a, NAME_decode_b, NAME_multiply, NAME_align, NAME_accumulate, and NAME, which joins them.

    NAME has the inputs clock, clear, a and b (codes) and the output sum, a signed integer in products of the formats' smallest steps. At each
    rising edge sum becomes a * b plus sum, or plus zero with clear. Two INT formats have no decoders and no aligner. Codes that stand for no
    value do something; so do infinities and NaN.

    An INT format beside another kind does not have its lowest code, -2^(bits-1), which `encode` does not produce.

    Raises ValueError as `operand` does.
    """
    made = Lane(operand(a), operand(b))
    if made.integer:
        parts = [_multiply(made, name), _accumulate(made, name), _integer_lane(made, name)]
    else:
        parts = [
            _decode(made.a, f"{name}_decode_a"),
            _decode(made.b, f"{name}_decode_b"),
            _multiply(made, name),
            *([_align(made, name)] if made.shift else []),
            _accumulate(made, name),
            _float_lane(made, name),
        ]
    return "\n".join(parts)


def write(of: str | Candidate, folder: Path) -> Path:
    """Write lane_NAME.v, the lane of a format with itself or of a pair, into a folder that is made where it is missing; returns its path.

    NAME is the format's name with `_` for what no Verilog identifier holds: T8_5x3_2; both names for a pair. A file that is there is replaced.
    Raises as `lane` does, and OSError.
    """
    given = candidate(of)
    name = "lane_" + re.sub(r"[^0-9A-Za-z]+", "_", given.name)
    text = lane(*formats_of(given), name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.v"
    path.write_text(text)
    return path


def _bits(width: int) -> str:
    return f"[{width - 1}:0]"


def _number(value: int, width: int) -> str:
    return f"{width}'d{value % (1 << width)}"


def _module(name: str, ports: list[str], body: list[str]) -> str:
    return "\n".join([f"module {name}({', '.join(ports)});", *(f"  {line}" for line in body), "endmodule", ""])


def _decode(of: Operand, name: str) -> str:
    n, p = of.bits, of.precision
    ports = [f"input {_bits(n)} code", "output negative", f"output {_bits(p)} significand"]
    body = [f"assign negative = code[{n - 1}];"]
    if of.two_complement:
        body.append(f"assign significand = (code[{p - 1}:0] ^ {{{p}{{negative}}}}) + negative;")
        return _module(name, ports, body)
    body.append(f"wire {_bits(n - 1)} index = code[{n - 2}:0];")
    # index + constant holds shift and fraction side by side; the constant is another one in each run.
    width = max([run.precision - 1 for run in of.runs], default=0) + max(of.shift_bits, 1)
    moved = _number(0, width)
    significand = f"index[{of.linear - 1}:0]" if of.linear else _number(0, p)
    shift = _number(of.linear_step, max(of.shift_bits, 1))
    for number, run in enumerate(of.runs, 1):
        k = run.precision
        body.append(f"wire in{number} = index >= {_number(run.start, n - 1)};")
        moved = f"in{number} ? {_number((run.step << (k - 1)) - run.start, width)} : {moved}"
        one = f"{{1'd1, moved[{k - 2}:0]}}" if k > 1 else "1'd1"
        significand = f"in{number} ? {one} : {significand}"
        shift = f"in{number} ? moved[{k - 2 + max(of.shift_bits, 1)}:{k - 1}] : {shift}"
    if of.runs:
        body.append(f"wire {_bits(width)} moved = index + ({moved});")
    body.append(f"assign significand = {significand};")
    if of.shift_bits:
        ports.append(f"output {_bits(of.shift_bits)} shift")
        body.append(f"assign shift = {shift};")
    return _module(name, ports, body)


def _multiply(of: Lane, name: str) -> str:
    a, b = (of.a.bits, of.b.bits) if of.integer else (of.a.precision, of.b.precision)
    ports = [f"input {_bits(a)} a", f"input {_bits(b)} b", f"output {_bits(of.product_bits)} product"]
    if not of.integer:
        return _module(f"{name}_multiply", ports, ["assign product = a * b;"])
    # C. R. Baugh, B. A. Wooley, "A Two's Complement Parallel Array Multiplication Algorithm", IEEE Transactions on Computers C-22(12), 1973:
    # the rows of a sign bit are inverted and constants added. Yosys' own signed product, which extends signs, is a tenth larger.
    width = of.product_bits
    body = [
        f"wire {_bits(width)} unsigned_part = a[{a - 2}:0] * b[{b - 2}:0];",
        f"wire {_bits(b - 1)} row_a = ~({{{b - 1}{{a[{a - 1}]}}}} & b[{b - 2}:0]);",
        f"wire {_bits(a - 1)} row_b = ~({{{a - 1}{{b[{b - 1}]}}}} & a[{a - 2}:0]);",
        f"wire {_bits(width)} constant = {_number((1 << (width - 1)) + (1 << (a - 1)) + (1 << (b - 1)), width)};",
        f"wire {_bits(width)} signs = {{1'd0, a[{a - 1}] & b[{b - 1}], {width - 2}'d0}};",
        f"assign product = unsigned_part + {{row_a, {a - 1}'d0}} + {{row_b, {b - 1}'d0}} + signs + constant;",
    ]
    return _module(f"{name}_multiply", ports, body)


def _align(of: Lane, name: str) -> str:
    operands = [(side, bits) for side, bits in (("a", of.a.shift_bits), ("b", of.b.shift_bits)) if bits]
    ports = [f"input {_bits(of.product_bits)} product", *(f"input {_bits(bits)} {side}" for side, bits in operands)]
    ports.append(f"output {_bits(of.aligned_bits)} aligned")
    body = [
        f"wire {_bits(of.shift.bit_length())} shift = {' + '.join(side for side, _ in operands)};",
        "assign aligned = product << shift;",
    ]
    return _module(f"{name}_align", ports, body)


def _accumulate(of: Lane, name: str) -> str:
    width, given = of.accumulator_bits, of.aligned_bits
    ports = ["input clock", "input clear", *([] if of.integer else ["input negative"])]
    ports += [f"input {_bits(given)} aligned", f"output reg signed {_bits(width)} sum"]
    body = [f"wire {_bits(width)} old = sum & ~{{{width}{{clear}}}};"]
    if of.integer:
        body.append(f"wire {_bits(width)} total = old + {{{{{width - given}{{aligned[{given - 1}]}}}}, aligned}};")
        body.append("always @(posedge clock) sum <= total;")
    else:
        # -x = ~x + 1; the one is carried in by a bit below the lowest.
        body.append(
            f"wire {_bits(width + 1)} total = {{old, negative}} + {{{{{width - given}{{negative}}}}, aligned ^ {{{given}{{negative}}}}, negative}};"
        )
        body.append(f"always @(posedge clock) sum <= total[{width}:1];")
    return _module(f"{name}_accumulate", ports, body)


def _ports(of: Lane) -> list[str]:
    ports = ["input clock", "input clear", f"input {_bits(of.a.bits)} a", f"input {_bits(of.b.bits)} b"]
    return [*ports, f"output signed {_bits(of.accumulator_bits)} sum"]


def _integer_lane(of: Lane, name: str) -> str:
    body = [
        f"wire {_bits(of.product_bits)} product;",
        f"{name}_multiply multiply(.a(a), .b(b), .product(product));",
        f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .aligned(product), .sum(sum));",
    ]
    return _module(name, _ports(of), body)


def _float_lane(of: Lane, name: str) -> str:
    body = []
    for side, part in (("a", of.a), ("b", of.b)):
        body += [f"wire negative_{side};", f"wire {_bits(part.precision)} significand_{side};"]
        shifted = ""
        if part.shift_bits:
            body.append(f"wire {_bits(part.shift_bits)} shift_{side};")
            shifted = f", .shift(shift_{side})"
        body.append(
            f"{name}_decode_{side} decode_{side}(.code({side}), .negative(negative_{side}), .significand(significand_{side}){shifted});"
        )
    shifts = "".join(f", .{side}(shift_{side})" for side, part in (("a", of.a), ("b", of.b)) if part.shift_bits)
    body += [
        f"wire {_bits(of.product_bits)} product;",
        f"{name}_multiply multiply(.a(significand_a), .b(significand_b), .product(product));",
    ]
    if of.shift:
        body += [f"wire {_bits(of.aligned_bits)} aligned;", f"{name}_align align(.product(product){shifts}, .aligned(aligned));"]
    body.append(
        f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .negative(negative_a ^ negative_b), "
        f".aligned({'aligned' if of.shift else 'product'}), .sum(sum));"
    )
    return _module(name, _ports(of), body)
