"""Verilog of a multiply-accumulate lane: two decoders, a multiplier, an aligner and an accumulator, combinational up to
the register.

Verilog-2001 without parameters or memories, for synthesis and for reading; what each part does is said in
formats/hardware/lane.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from formats import Format
from formats.hardware.lane import FLOAT_BITS, Accumulator, Lane, Operand, operand
from formats.hardware.verilog_text import constant, float_accumulator, module, shifted_to_top, vector
from formats.pairs import Candidate, candidate, formats_of
from numeric_formats.files import write_atomically


def lane_modules(a: Format, b: Format, accumulator: Accumulator = Accumulator.EXACT, name: str = "lane") -> str:
    """The modules NAME_decode_a, NAME_decode_b, NAME_multiply, NAME_align, NAME_accumulate, and NAME, which joins them.

    NAME has the inputs clock, clear, a and b (codes). At each rising edge the register becomes a * b plus itself, or
    plus zero with clear. Its unit is a product of the formats' smallest steps. Exact: the output sum, a signed integer.
    Float: the outputs negative, position (of the leading bit) and significand (10 bits, the leading one included; 0 for
    zero), together significand * 2^(position - 9).

    With the exact accumulator two INT formats have no decoders and no aligner, and where nothing is shifted there is no
    aligner. Codes that stand for no value do something; so do infinities and NaN. Where an INT format is decoded, it
    does not have its lowest code, -2^(bits-1), which `encode` does not produce.

    Args:
        a, b: the formats of the two numbers that are multiplied.
        accumulator: what the lane adds products up in.
        name: what the names of the modules begin with.

    Raises:
        ValueError: for a format of which no lane is known, as `operand` says.
    """
    made = Lane(operand(a), operand(b), accumulator)
    if made.integer:
        parts = [_multiply(made, name), _accumulate(made, name), _integer_lane(made, name)]
    else:
        parts = [_decode(made.a, f"{name}_decode_a"), _decode(made.b, f"{name}_decode_b"), _multiply(made, name)]
        if accumulator is Accumulator.FLOAT:
            parts += [
                _normalize(made, name),
                float_accumulator(made.sum_bits, made.position_bits, FLOAT_BITS, f"{name}_accumulate"),
            ]
        else:
            parts += [*([_align(made, name)] if made.shift else []), _accumulate(made, name)]
        parts.append(_decoded_lane(made, name))
    return "\n".join(parts)


def write_lane(of: str | Candidate, folder: Path, accumulator: Accumulator = Accumulator.EXACT) -> Path:
    """Write lane_NAME.v, the lane of a format with itself or of a pair.

    NAME is the format's name with `_` for what no Verilog identifier holds: T8_5x3_2; both names for a pair.

    Args:
        of: a format or a pair, or its name.
        folder: made where it is missing; a file that is there is replaced.
        accumulator: what the lane adds products up in.

    Returns:
        The file's path.

    Raises:
        ValueError: as `lane_modules` does.
        OSError: where the folder cannot be written.
    """
    given = candidate(of)
    name = "lane_" + re.sub(r"[^0-9A-Za-z]+", "_", given.name)
    text = lane_modules(*formats_of(given), accumulator, name)
    path = folder / f"{name}.v"
    write_atomically(path, text)
    return path


def _decode(of: Operand, name: str) -> str:
    n, p = of.bits, of.precision
    ports = [f"input {vector(n)} code", "output negative", f"output {vector(p)} significand"]
    if of.table:
        return _look_up(of, name, ports)
    body = [f"assign negative = code[{n - 1}];"]
    if of.two_complement:
        body.append(f"assign significand = (code[{p - 1}:0] ^ {{{p}{{negative}}}}) + negative;")
        return module(name, ports, body)
    body.append(f"wire {vector(n - 1)} index = code[{n - 2}:0];")
    # index + constant holds shift and fraction side by side; the constant is another one in each run.
    width = max([run.precision - 1 for run in of.runs], default=0) + max(of.shift_bits, 1)
    moved = constant(0, width)
    significand = f"index[{of.linear - 1}:0]" if of.linear else constant(0, p)
    shift = constant(of.linear_step, max(of.shift_bits, 1))
    for number, run in enumerate(of.runs, 1):
        k = run.precision
        body.append(f"wire in{number} = index >= {constant(run.start, n - 1)};")
        moved = f"in{number} ? {constant((run.step << (k - 1)) - run.start, width)} : {moved}"
        one = f"{{1'd1, moved[{k - 2}:0]}}" if k > 1 else "1'd1"
        significand = f"in{number} ? {one} : {significand}"
        shift = f"in{number} ? moved[{k - 2 + max(of.shift_bits, 1)}:{k - 1}] : {shift}"
    if of.runs:
        body.append(f"wire {vector(width)} moved = index + ({moved});")
    body.append(f"assign significand = {significand};")
    if of.shift_bits:
        ports.append(f"output {vector(of.shift_bits)} shift")
        body.append(f"assign shift = {shift};")
    return module(name, ports, body)


def _look_up(of: Operand, name: str, ports: list[str]) -> str:
    """A decoder that is a table: of each output bit, what it is for every code."""
    outputs = {"negative": [int(entry.negative) for entry in of.table]}
    for bit in range(of.precision):
        outputs[f"significand[{bit}]"] = [entry.significand >> bit & 1 for entry in of.table]
    if of.shift_bits:
        ports.append(f"output {vector(of.shift_bits)} shift")
    for bit in range(of.shift_bits):
        outputs[f"shift[{bit}]"] = [entry.shift >> bit & 1 for entry in of.table]
    body = []
    for number, (output, column) in enumerate(outputs.items()):
        value = sum(bit << code for code, bit in enumerate(column))
        body.append(f"wire {vector(len(column))} table{number} = {len(column)}'h{value:x};")
        body.append(f"assign {output} = table{number}[code];")
    return module(name, ports, body)


def _multiply(of: Lane, name: str) -> str:
    a, b = (of.a.bits, of.b.bits) if of.integer else (of.a.precision, of.b.precision)
    ports = [f"input {vector(a)} a", f"input {vector(b)} b", f"output {vector(of.product_bits)} product"]
    if not of.integer:
        return module(f"{name}_multiply", ports, ["assign product = a * b;"])
    # C. R. Baugh, B. A. Wooley, "A Two's Complement Parallel Array Multiplication Algorithm", IEEE Transactions on
    # Computers C-22(12), 1973: the rows of a sign bit are inverted and constants added. Yosys' own signed product,
    # which extends signs, is a tenth larger.
    width = of.product_bits
    body = [
        f"wire {vector(width)} unsigned_part = a[{a - 2}:0] * b[{b - 2}:0];",
        f"wire {vector(b - 1)} row_a = ~({{{b - 1}{{a[{a - 1}]}}}} & b[{b - 2}:0]);",
        f"wire {vector(a - 1)} row_b = ~({{{a - 1}{{b[{b - 1}]}}}} & a[{a - 2}:0]);",
        f"wire {vector(width)} constant = {constant((1 << (width - 1)) + (1 << (a - 1)) + (1 << (b - 1)), width)};",
        f"wire {vector(width)} signs = {{1'd0, a[{a - 1}] & b[{b - 1}], {width - 2}'d0}};",
        f"assign product = unsigned_part + {{row_a, {a - 1}'d0}} + {{row_b, {b - 1}'d0}} + signs + constant;",
    ]
    return module(f"{name}_multiply", ports, body)


def _shifted(of: Lane) -> list[tuple[str, int]]:
    """The operands that have a shift, and its bits."""
    return [(side, bits) for side, bits in (("a", of.a.shift_bits), ("b", of.b.shift_bits)) if bits]


def _align(of: Lane, name: str) -> str:
    operands = _shifted(of)
    ports = [f"input {vector(of.product_bits)} product", *(f"input {vector(bits)} {side}" for side, bits in operands)]
    ports.append(f"output {vector(of.aligned_bits)} aligned")
    body = [
        f"wire {vector(of.shift.bit_length())} shift = {' + '.join(side for side, _ in operands)};",
        "assign aligned = product << shift;",
    ]
    return module(f"{name}_align", ports, body)


def _accumulate(of: Lane, name: str) -> str:
    width, given = of.register_bits, of.aligned_bits
    ports = ["input clock", "input clear", *([] if of.integer else ["input negative"])]
    ports += [f"input {vector(given)} aligned", f"output reg signed {vector(width)} sum"]
    body = [f"wire {vector(width)} old = sum & ~{{{width}{{clear}}}};"]
    if of.integer:
        body.append(f"wire {vector(width)} total = old + {{{{{width - given}{{aligned[{given - 1}]}}}}, aligned}};")
        body.append("always @(posedge clock) sum <= total;")
    else:
        # -x = ~x + 1; the one is carried in by a bit below the lowest.
        signed = f"{{{{{width - given}{{negative}}}}, aligned ^ {{{given}{{negative}}}}, negative}}"
        body.append(f"wire {vector(width + 1)} total = {{old, negative}} + {signed};")
        body.append(f"always @(posedge clock) sum <= total[{width}:1];")
    return module(f"{name}_accumulate", ports, body)


def _normalize(of: Lane, name: str) -> str:
    """The aligner of a float accumulator: the product with its leading bit on top, and the position of that bit; 0 and
    0 for zero."""
    width, positions = of.product_bits, of.position_bits
    operands = _shifted(of)
    ports = [f"input {vector(width)} product", *(f"input {vector(bits)} {side}" for side, bits in operands)]
    ports += [f"output {vector(of.sum_bits)} aligned", f"output {vector(positions)} position"]
    padding = of.sum_bits - width
    end = f", {padding}'d0}}" if padding else "}"
    shift = "".join(f" + {side}" for side, _ in operands)
    if width == 1:
        body = [
            f"assign aligned = {{product{end};",
            f"assign position = product ? {constant(0, positions)}{shift} : {constant(0, positions)};",
        ]
        return module(f"{name}_align", ports, body)
    lines, result, places = shifted_to_top("product", width)
    body = [
        *lines,
        f"assign aligned = {{{result}{end};",
        f"assign position = {result}[{width - 1}] ? "
        f"{constant(width - 1, positions)}{shift} - {places} : {constant(0, positions)};",
    ]
    return module(f"{name}_align", ports, body)


def _ports(of: Lane) -> list[str]:
    ports = ["input clock", "input clear", f"input {vector(of.a.bits)} a", f"input {vector(of.b.bits)} b"]
    if of.accumulator is Accumulator.FLOAT:
        return [
            *ports,
            "output negative",
            f"output {vector(of.position_bits)} position",
            f"output {vector(FLOAT_BITS)} significand",
        ]
    return [*ports, f"output signed {vector(of.register_bits)} sum"]


def _integer_lane(of: Lane, name: str) -> str:
    body = [
        f"wire {vector(of.product_bits)} product;",
        f"{name}_multiply multiply(.a(a), .b(b), .product(product));",
        f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .aligned(product), .sum(sum));",
    ]
    return module(name, _ports(of), body)


def _decoded_lane(of: Lane, name: str) -> str:
    body = []
    for side, part in (("a", of.a), ("b", of.b)):
        body += [f"wire negative_{side};", f"wire {vector(part.precision)} significand_{side};"]
        shifted = ""
        if part.shift_bits:
            body.append(f"wire {vector(part.shift_bits)} shift_{side};")
            shifted = f", .shift(shift_{side})"
        body.append(
            f"{name}_decode_{side} decode_{side}(.code({side}), .negative(negative_{side}), "
            f".significand(significand_{side}){shifted});"
        )
    body += [
        f"wire {vector(of.product_bits)} product;",
        f"{name}_multiply multiply(.a(significand_a), .b(significand_b), .product(product));",
        "wire minus = negative_a ^ negative_b;",
    ]
    shifts = "".join(f", .{side}(shift_{side})" for side, _ in _shifted(of))
    if of.accumulator is Accumulator.FLOAT:
        body += [
            f"wire {vector(of.sum_bits)} aligned;",
            f"wire {vector(of.position_bits)} at;",
            f"{name}_align align(.product(product){shifts}, .aligned(aligned), .position(at));",
            f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .minus(minus), .aligned(aligned), .at(at), "
            ".negative(negative), .position(position), .significand(significand));",
        ]
        return module(name, _ports(of), body)
    if of.shift:
        body += [
            f"wire {vector(of.aligned_bits)} aligned;",
            f"{name}_align align(.product(product){shifts}, .aligned(aligned));",
        ]
    aligned = "aligned" if of.shift else "product"
    body.append(
        f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .negative(minus), .aligned({aligned}), .sum(sum));"
    )
    return module(name, _ports(of), body)
