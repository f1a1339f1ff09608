"""Commands about formats themselves: list, show, vectors, verify, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.options import BitsOption, FamilyOption, MaxBinadesOption
from commands.printing import say


def list_formats(
    bits: BitsOption = None,
    family: FamilyOption = None,
    max_binades: MaxBinadesOption = None,
    standards: Annotated[bool, typer.Option("--standards", help="the standards outside the 498 instead")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the 498 formats of the catalogue, or the standards outside it.

    Examples: formats list --bits 8 --family FP · formats list --json · formats list --standards
    """
    import json

    import formats
    from formats.profile import written

    if standards and (bits, family, max_binades) != (None, None, None):
        raise ValueError("--standards lists all standards; --bits, --family and --max-binades choose among the 498")
    if standards:
        from formats.description import standards as described

        keys = ["name", "bits", "scale", "profile", "largest", "smallest_positive", "special_values", "also"]
        rows = [
            {key: row[key] for key in keys} | {"special_values": ", ".join(row["special_values"])}
            for row in described()
        ]
    else:
        keys = ["name", "bits", "family", "granularity", "binades", "profile"]
        chosen = [f for f in formats.catalogue(bits, family) if max_binades is None or f.binades <= max_binades]
        rows = [{key: getattr(f, key) for key in keys} for f in chosen]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    from reports.tables import fact, plain

    headers = [
        ("format", "left"),
        *((key.replace("_", " "), "right" if key in ("bits", "binades") else "left") for key in keys[1:]),
    ]
    say(plain(None, headers, [[written(v) if isinstance(v, tuple) else fact(v) for v in row.values()] for row in rows]))
    if standards:
        say("and posit<n,es>, minifloat(x,y,bias=b), P3109:k.p.{signed,unsigned}.{finite,extended}, INTn/real, LOG4")
    say(f"{len(rows)} {'standards' if standards else 'formats'}")


def show(
    name: Annotated[
        str,
        typer.Argument(help="FP134, INT8, T8.5x3@2, BM43, E4M3, MXFP4, NVFP4, NF4, profile:8:4x2,5x3,4x7,3,2,1, ..."),
    ],
    top: Annotated[
        int | None, typer.Option(help="top exponent T at which values are shown; default: the standard's, else 0")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show a format: profile, range, special values, and the values with their codes.

    Examples: formats show FP134 · formats show T8.5x3@2 --top 3 --json · formats show MXFP4
    """
    import json

    import formats
    from formats.description import describe

    facts = describe(formats.get(name), top)
    values = facts.pop("values")
    if as_json:
        listed = values and [{"code": code, "value": value} for code, value in values]
        typer.echo(json.dumps(facts | {"values": listed}))
        return
    from reports.tables import fact, plain

    say(
        plain(
            facts["name"],
            [("", "left"), ("", "left")],
            [[key.replace("_", " "), fact(value)] for key, value in facts.items()],
        )
    )
    if values is None:
        say(f"{facts['number_of_values']} values, too many to list")
        return
    rows = [[f"0x{code:02X}", f"{code:0{facts['bits']}b}", f"{value:.9g}"] for code, value in values]
    say(plain("values", [("code", "left"), ("bits", "left"), ("value", "right")], rows))


def vectors(
    name: Annotated[str, typer.Argument(help="FP134, INT8, T8.5x3@2, profile:8:4x2,5x3,4x7,3,2,1, ...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the three files")] = Path(),
    top: Annotated[
        int | None,
        typer.Option(help="top exponent T; default: 0, or the nearest at which all values are float32 numbers"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace files that are there")] = False,
) -> None:
    """Write what a hardware engineer needs: test vectors (CSV), a decode table ($readmemh) and a C header with encode
    and decode.

    Examples: formats vectors FP134 · formats vectors T8.5x3@2 --top 4 --output rtl/
    """
    import formats
    from formats.hardware.vectors import write_vectors

    format = formats.get(name)
    if not isinstance(format, formats.ProfileFormat):
        raise ValueError(f"{name} has no precision profile, of which vectors are made")
    for path in write_vectors(format, output, top, force=force):
        say(f"wrote {path}")


def verify(
    library: Annotated[
        str,
        typer.Argument(
            help="ml_dtypes, torch, gfloat, qtorch, pychop, torchao, brevitas, or a function as package.module:name"
        ),
    ],
    as_format: Annotated[
        str | None, typer.Option("--as", help="the format that a function claims to round to, such as E4M3")
    ] = None,
    inputs: Annotated[int, typer.Option(help="most inputs in a category")] = 200_000,
    seed: Annotated[int, typer.Option(help="decides the random inputs")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say which of another library's roundings are exact, and where the others go wrong. Exit code 1 if one is wrong.

    Examples: formats verify ml_dtypes · formats verify mypackage.casts:to_fp8 --as E4M3 · formats verify
    mypackage.mx:quantize --as MXFP4
    """
    import json
    from dataclasses import asdict

    from formats.conformance.compare import verify as check

    checks = check(library, as_format, inputs, seed)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in checks]))
    else:
        from reports.tables import plain

        headers = [
            ("subject", "left"),
            ("format", "left"),
            ("category", "left"),
            ("inputs", "right"),
            ("wrong", "right"),
            ("first", "left"),
        ]
        rows = [[c.subject, c.format, c.category, str(c.inputs), str(c.mismatches), c.example] for c in checks]
        say(plain(library, headers, rows))
        wrong = sorted({c.subject for c in checks if c.mismatches})
        exact = len({c.subject for c in checks}) - len(wrong)
        say(f"{exact} roundings exact, {len(wrong)} not" + (f": {', '.join(wrong)}" if wrong else ""))
    if any(c.mismatches for c in checks):
        raise typer.Exit(1)


def cost(
    names: Annotated[
        list[str], typer.Argument(help="FP134, INT8, T8.5x3@2, ...; ACTIVATION+ERROR is a pair", metavar="NAME...")
    ],
    accumulator: Annotated[
        str, typer.Option(help="exact (fixed point, nothing is rounded) or float (10 significant bits, as FP169)")
    ] = "exact",
    verilog: Annotated[Path | None, typer.Option(help="folder for the Verilog of each lane")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say what formats cost in hardware: gates of one multiply-accumulate lane, in NAND2 equivalents.

    Examples: formats cost INT8 FP134 FP143+FP152 · formats cost T8.5x3@2 --verilog rtl/ --json
    """
    import json
    from dataclasses import asdict

    from formats.hardware.cost import lane_cost
    from formats.hardware.lane import Accumulator
    from formats.hardware.verilog import write_lane

    costs = [lane_cost(name, accumulator) for name in names]
    if as_json:
        typer.echo(
            json.dumps([{"name": name} | asdict(c) | {"total": c.total} for name, c in zip(names, costs, strict=True)])
        )
    else:
        from reports.tables import plain

        columns = ("multiplier", "aligner", "accumulator", "decoder", "total")
        rows = [
            [name, *(f"{getattr(c, column):.0f}" for column in columns)] for name, c in zip(names, costs, strict=True)
        ]
        say(
            plain(
                f"NAND2 equivalents, {accumulator} accumulator",
                [("format", "left"), *((column, "right") for column in columns)],
                rows,
            )
        )
    if verilog is not None:
        for name in names:
            path = write_lane(name, verilog, Accumulator(accumulator))
            typer.echo(f"wrote {path}", err=as_json)
