"""What the Verilog of lanes and their surroundings is made of: numbers, modules, shifters, a floating-point adder."""

from __future__ import annotations


def vector(width: int) -> str:
    """The range of so many bits."""
    return f"[{width - 1}:0]"


def constant(value: int, width: int) -> str:
    """A number of so many bits, cut to them."""
    return f"{width}'d{value % (1 << width)}"


def module(name: str, ports: list[str], body: list[str]) -> str:
    """A module."""
    return "\n".join([f"module {name}({', '.join(ports)});", *(f"  {line}" for line in body), "endmodule", ""])


def shifted_to_top(given: str, width: int) -> tuple[list[str], str, str]:
    """Lines that shift a signal left until its highest bit is set; the names of the result and of the number of
    places."""
    lines, empty = [], []
    for stage in reversed(range((width - 1).bit_length())):
        size = 1 << stage
        lines += [
            f"wire empty{stage} = {given}[{width - 1}:{width - size}] == {size}'d0;",
            f"wire {vector(width)} moved{stage} = "
            f"empty{stage} ? {{{given}[{width - size - 1}:0], {size}'d0}} : {given};",
        ]
        given = f"moved{stage}"
        empty.append(f"empty{stage}")
    lines.append(f"wire {vector(len(empty))} places = {{{', '.join(empty)}}};")
    return lines, given, "places"


def shifted_right(given: str, width: int, distance: str, distance_bits: int) -> tuple[list[str], str, str]:
    """Lines that shift a signal right; the names of the result and of a bit that says whether a one was lost."""
    lines, losses = [], []
    stages = min((width - 1).bit_length(), distance_bits)
    for stage in range(stages):
        size = 1 << stage
        lines += [
            f"wire lost{stage} = {distance}[{stage}] & ~({given}[{size - 1}:0] == {size}'d0);",
            f"wire {vector(width)} right{stage} = "
            f"{distance}[{stage}] ? {{{size}'d0, {given}[{width - 1}:{size}]}} : {given};",
        ]
        given = f"right{stage}"
        losses.append(f"lost{stage}")
    if stages < distance_bits:
        lines += [
            f"wire far = ~({distance}[{distance_bits - 1}:{stages}] == {constant(0, distance_bits - stages)});",
            f"wire lost_far = far & ~({given} == {width}'d0);",
            f"wire {vector(width)} right_far = {given} & ~{{{width}{{far}}}};",
        ]
        given = "right_far"
        losses.append("lost_far")
    lines.append(f"wire lost = {{{', '.join(losses)}}} != {len(losses)}'d0;")
    return lines, given, "lost"


def float_accumulator(width: int, positions: int, kept: int, name: str) -> str:
    """A floating-point adder and its register, rounded to nearest, ties to even, without overflow or underflow.

    width: bits of the significand that is added, `kept` of the register's; both have the leading bit on top, at a
    position of `positions` bits.
    """
    ports = [
        "input clock",
        "input clear",
        "input minus",
        f"input {vector(width)} aligned",
        f"input {vector(positions)} at",
    ]
    ports += [
        "output reg negative",
        f"output reg {vector(positions)} position",
        f"output reg {vector(kept)} significand",
    ]
    padding = f", {width - kept}'d0" if width > kept else ""
    both, wide = positions + width, width + 4
    shifts, shifted, lost = shifted_right("given", width + 2, "distance", positions)
    lines, result, places = shifted_to_top("total", wide)
    rest = wide - kept
    body = [
        f"wire {vector(both)} old = {{position, significand{padding}}} & ~{{{both}{{clear}}}};",
        f"wire {vector(both)} new = {{at, aligned}};",
        # Both have their leading bit on top, so that position and significand compare as one number.
        "wire swap = new >= old;",
        f"wire {vector(both)} larger = swap ? new : old;",
        f"wire {vector(both)} smaller = swap ? old : new;",
        "wire sign = swap ? minus : negative;",
        "wire differ = minus ^ negative & ~clear;",
        f"wire {vector(positions)} distance = larger[{both - 1}:{width}] - smaller[{both - 1}:{width}];",
        # Two bits below the lowest, and a third that says whether anything was lost further down.
        f"wire {vector(width + 2)} given = {{smaller[{width - 1}:0], 2'd0}};",
        *shifts,
        f"wire {vector(wide)} addend = {{1'd0, {shifted}, {lost}}} ^ {{{wide}{{differ}}}};",
        f"wire {vector(wide)} total = {{1'd0, larger[{width - 1}:0], 3'd0}} + addend + differ;",
        *lines,
        f"wire half = {result}[{rest - 1}];",
        f"wire tie = {result}[{rest - 2}:0] == {rest - 1}'d0;",
        f"wire {vector(kept + 1)} rounded = "
        f"{{1'd0, {result}[{wide - 1}:{rest}]}} + (half & ~(tie & ~{result}[{rest}]));",
        f"wire some = {result}[{wide - 1}];",
        f"wire {vector(positions)} reached = larger[{both - 1}:{width}] + 1'd1 + rounded[{kept}] - {places};",
        "always @(posedge clock) begin",
        "  negative <= sign & some;",
        f"  position <= reached & {{{positions}{{some}}}};",
        f"  significand <= {{rounded[{kept}] ^ rounded[{kept - 1}], rounded[{kept - 2}:0]}};",
        "end",
    ]
    return module(name, ports, body)
