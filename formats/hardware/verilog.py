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
        ValueError: for a format that no precision profile describes, or without sign or zero.
    """
    made = Lane(operand(a), operand(b), accumulator)
    if made.integer:
        parts = [_multiply(made, name), _accumulate(made, name), _integer_lane(made, name)]
    else:
        parts = [_decode(made.a, f"{name}_decode_a"), _decode(made.b, f"{name}_decode_b"), _multiply(made, name)]
        if accumulator is Accumulator.FLOAT:
            parts += [_normalize(made, name), _accumulate_float(made, name)]
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
    # C. R. Baugh, B. A. Wooley, "A Two's Complement Parallel Array Multiplication Algorithm", IEEE Transactions on
    # Computers C-22(12), 1973: the rows of a sign bit are inverted and constants added. Yosys' own signed product,
    # which extends signs, is a tenth larger.
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


def _shifted(of: Lane) -> list[tuple[str, int]]:
    """The operands that have a shift, and its bits."""
    return [(side, bits) for side, bits in (("a", of.a.shift_bits), ("b", of.b.shift_bits)) if bits]


def _align(of: Lane, name: str) -> str:
    operands = _shifted(of)
    ports = [f"input {_bits(of.product_bits)} product", *(f"input {_bits(bits)} {side}" for side, bits in operands)]
    ports.append(f"output {_bits(of.aligned_bits)} aligned")
    body = [
        f"wire {_bits(of.shift.bit_length())} shift = {' + '.join(side for side, _ in operands)};",
        "assign aligned = product << shift;",
    ]
    return _module(f"{name}_align", ports, body)


def _accumulate(of: Lane, name: str) -> str:
    width, given = of.register_bits, of.aligned_bits
    ports = ["input clock", "input clear", *([] if of.integer else ["input negative"])]
    ports += [f"input {_bits(given)} aligned", f"output reg signed {_bits(width)} sum"]
    body = [f"wire {_bits(width)} old = sum & ~{{{width}{{clear}}}};"]
    if of.integer:
        body.append(f"wire {_bits(width)} total = old + {{{{{width - given}{{aligned[{given - 1}]}}}}, aligned}};")
        body.append("always @(posedge clock) sum <= total;")
    else:
        # -x = ~x + 1; the one is carried in by a bit below the lowest.
        signed = f"{{{{{width - given}{{negative}}}}, aligned ^ {{{given}{{negative}}}}, negative}}"
        body.append(f"wire {_bits(width + 1)} total = {{old, negative}} + {signed};")
        body.append(f"always @(posedge clock) sum <= total[{width}:1];")
    return _module(f"{name}_accumulate", ports, body)


def _leading(given: str, width: int) -> tuple[list[str], str, str]:
    """Lines that shift a signal left until its highest bit is set; the names of the result and of the number of
    places."""
    lines, empty = [], []
    for stage in reversed(range((width - 1).bit_length())):
        size = 1 << stage
        lines += [
            f"wire empty{stage} = {given}[{width - 1}:{width - size}] == {size}'d0;",
            f"wire {_bits(width)} moved{stage} = "
            f"empty{stage} ? {{{given}[{width - size - 1}:0], {size}'d0}} : {given};",
        ]
        given = f"moved{stage}"
        empty.append(f"empty{stage}")
    lines.append(f"wire {_bits(len(empty))} places = {{{', '.join(empty)}}};")
    return lines, given, "places"


def _shifted_right(given: str, width: int, distance: str, distance_bits: int) -> tuple[list[str], str, str]:
    """Lines that shift a signal right; the names of the result and of a bit that says whether a one was lost."""
    lines, losses = [], []
    stages = min((width - 1).bit_length(), distance_bits)
    for stage in range(stages):
        size = 1 << stage
        lines += [
            f"wire lost{stage} = {distance}[{stage}] & ~({given}[{size - 1}:0] == {size}'d0);",
            f"wire {_bits(width)} right{stage} = "
            f"{distance}[{stage}] ? {{{size}'d0, {given}[{width - 1}:{size}]}} : {given};",
        ]
        given = f"right{stage}"
        losses.append(f"lost{stage}")
    if stages < distance_bits:
        lines += [
            f"wire far = ~({distance}[{distance_bits - 1}:{stages}] == {_number(0, distance_bits - stages)});",
            f"wire lost_far = far & ~({given} == {width}'d0);",
            f"wire {_bits(width)} right_far = {given} & ~{{{width}{{far}}}};",
        ]
        given = "right_far"
        losses.append("lost_far")
    lines.append(f"wire lost = {{{', '.join(losses)}}} != {len(losses)}'d0;")
    return lines, given, "lost"


def _normalize(of: Lane, name: str) -> str:
    """The aligner of a float accumulator: the product with its leading bit on top, and the position of that bit; 0 and
    0 for zero."""
    width, positions = of.product_bits, of.position_bits
    operands = _shifted(of)
    ports = [f"input {_bits(width)} product", *(f"input {_bits(bits)} {side}" for side, bits in operands)]
    ports += [f"output {_bits(of.sum_bits)} aligned", f"output {_bits(positions)} position"]
    padding = of.sum_bits - width
    end = f", {padding}'d0}}" if padding else "}"
    shift = "".join(f" + {side}" for side, _ in operands)
    if width == 1:
        body = [
            f"assign aligned = {{product{end};",
            f"assign position = product ? {_number(0, positions)}{shift} : {_number(0, positions)};",
        ]
        return _module(f"{name}_align", ports, body)
    lines, result, places = _leading("product", width)
    body = [
        *lines,
        f"assign aligned = {{{result}{end};",
        f"assign position = {result}[{width - 1}] ? "
        f"{_number(width - 1, positions)}{shift} - {places} : {_number(0, positions)};",
    ]
    return _module(f"{name}_align", ports, body)


def _accumulate_float(of: Lane, name: str) -> str:
    width, positions, kept = of.sum_bits, of.position_bits, FLOAT_BITS
    ports = [
        "input clock",
        "input clear",
        "input minus",
        f"input {_bits(width)} aligned",
        f"input {_bits(positions)} at",
    ]
    ports += ["output reg negative", f"output reg {_bits(positions)} position", f"output reg {_bits(kept)} significand"]
    padding = f", {width - kept}'d0" if width > kept else ""
    both, wide = positions + width, width + 4
    shifts, shifted, lost = _shifted_right("given", width + 2, "distance", positions)
    lines, result, places = _leading("total", wide)
    rest = wide - kept
    body = [
        f"wire {_bits(both)} old = {{position, significand{padding}}} & ~{{{both}{{clear}}}};",
        f"wire {_bits(both)} new = {{at, aligned}};",
        # Both have their leading bit on top, so that position and significand compare as one number.
        "wire swap = new >= old;",
        f"wire {_bits(both)} larger = swap ? new : old;",
        f"wire {_bits(both)} smaller = swap ? old : new;",
        "wire sign = swap ? minus : negative;",
        "wire differ = minus ^ negative & ~clear;",
        f"wire {_bits(positions)} distance = larger[{both - 1}:{width}] - smaller[{both - 1}:{width}];",
        # Two bits below the lowest, and a third that says whether anything was lost further down.
        f"wire {_bits(width + 2)} given = {{smaller[{width - 1}:0], 2'd0}};",
        *shifts,
        f"wire {_bits(wide)} addend = {{1'd0, {shifted}, {lost}}} ^ {{{wide}{{differ}}}};",
        f"wire {_bits(wide)} total = {{1'd0, larger[{width - 1}:0], 3'd0}} + addend + differ;",
        *lines,
        f"wire half = {result}[{rest - 1}];",
        f"wire tie = {result}[{rest - 2}:0] == {rest - 1}'d0;",
        f"wire {_bits(kept + 1)} rounded = "
        f"{{1'd0, {result}[{wide - 1}:{rest}]}} + (half & ~(tie & ~{result}[{rest}]));",
        f"wire some = {result}[{wide - 1}];",
        f"wire {_bits(positions)} reached = larger[{both - 1}:{width}] + 1'd1 + rounded[{kept}] - {places};",
        "always @(posedge clock) begin",
        "  negative <= sign & some;",
        f"  position <= reached & {{{positions}{{some}}}};",
        f"  significand <= {{rounded[{kept}] ^ rounded[{kept - 1}], rounded[{kept - 2}:0]}};",
        "end",
    ]
    return _module(f"{name}_accumulate", ports, body)


def _ports(of: Lane) -> list[str]:
    ports = ["input clock", "input clear", f"input {_bits(of.a.bits)} a", f"input {_bits(of.b.bits)} b"]
    if of.accumulator is Accumulator.FLOAT:
        return [
            *ports,
            "output negative",
            f"output {_bits(of.position_bits)} position",
            f"output {_bits(FLOAT_BITS)} significand",
        ]
    return [*ports, f"output signed {_bits(of.register_bits)} sum"]


def _integer_lane(of: Lane, name: str) -> str:
    body = [
        f"wire {_bits(of.product_bits)} product;",
        f"{name}_multiply multiply(.a(a), .b(b), .product(product));",
        f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .aligned(product), .sum(sum));",
    ]
    return _module(name, _ports(of), body)


def _decoded_lane(of: Lane, name: str) -> str:
    body = []
    for side, part in (("a", of.a), ("b", of.b)):
        body += [f"wire negative_{side};", f"wire {_bits(part.precision)} significand_{side};"]
        shifted = ""
        if part.shift_bits:
            body.append(f"wire {_bits(part.shift_bits)} shift_{side};")
            shifted = f", .shift(shift_{side})"
        body.append(
            f"{name}_decode_{side} decode_{side}(.code({side}), .negative(negative_{side}), "
            f".significand(significand_{side}){shifted});"
        )
    body += [
        f"wire {_bits(of.product_bits)} product;",
        f"{name}_multiply multiply(.a(significand_a), .b(significand_b), .product(product));",
        "wire minus = negative_a ^ negative_b;",
    ]
    shifts = "".join(f", .{side}(shift_{side})" for side, _ in _shifted(of))
    if of.accumulator is Accumulator.FLOAT:
        body += [
            f"wire {_bits(of.sum_bits)} aligned;",
            f"wire {_bits(of.position_bits)} at;",
            f"{name}_align align(.product(product){shifts}, .aligned(aligned), .position(at));",
            f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .minus(minus), .aligned(aligned), .at(at), "
            ".negative(negative), .position(position), .significand(significand));",
        ]
        return _module(name, _ports(of), body)
    if of.shift:
        body += [
            f"wire {_bits(of.aligned_bits)} aligned;",
            f"{name}_align align(.product(product){shifts}, .aligned(aligned));",
        ]
    aligned = "aligned" if of.shift else "product"
    body.append(
        f"{name}_accumulate accumulate(.clock(clock), .clear(clear), .negative(minus), .aligned({aligned}), .sum(sum));"
    )
    return _module(name, _ports(of), body)
