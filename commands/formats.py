"""Commands about formats themselves: list, show, vectors, verify, cost. Angles of formats: commands/measuring.py."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from commands.options import BitsOption, FamilyOption, JsonOption, MaxBinadesOption, ProductsOption
from commands.printing import say, say_json

INEXACT = 1
"""The exit code of verify where a rounding is wrong."""


class Values(StrEnum):
    """Which values of a format are listed."""

    ALL = "all"
    POSITIVE = "positive"
    NONE = "none"


def list_formats(
    bits: BitsOption = None,
    family: FamilyOption = None,
    max_binades: MaxBinadesOption = None,
    standards: Annotated[bool, typer.Option("--standards", help="the standards outside the 498 instead")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the 498 formats of the catalogue, or the standards outside it.

    Examples: formats list --bits 8 --family FP · formats list --json · formats list --standards
    """
    from formats.description import listed, listed_standards
    from reports.tables import formats as tables

    if standards and (bits, family, max_binades) != (None, None, None):
        raise ValueError("--standards lists all standards; --bits, --family and --max-binades choose among the 498")
    rows = listed_standards() if standards else listed(bits, family, max_binades)
    if as_json:
        say_json(rows)
    else:
        say(*(tables.standards(rows) if standards else tables.catalogue(rows)))


def show(
    name: Annotated[
        str,
        typer.Argument(help="FP134, INT8, T8.5x3@2, BM43, E4M3, MXFP4, NVFP4, NF4, profile:8:4x2,5x3,4x7,3,2,1, ..."),
    ],
    top: Annotated[
        int | None, typer.Option(help="top exponent T at which values are shown; default: the standard's, else 0")
    ] = None,
    values: Annotated[str, typer.Option(help="which of its values are listed: all, positive or none")] = "all",
    as_json: JsonOption = False,
) -> None:
    """Show a format: profile, range, special values, and the values with their codes.

    Examples: formats show FP134 · formats show T8.5x3@2 --top 3 --json · formats show posit<8,2> --values none
    """
    from formats.description import describe
    from formats.lookup import get
    from numeric_formats.checks import one_of
    from predictor.scheme import scale_in_schemes
    from reports.tables import formats as tables

    wanted = one_of("values", Values, values)
    format = get(name)
    facts = describe(format, top) | {"in_training": scale_in_schemes(format)}
    if facts["values"] is not None and wanted is not Values.ALL:
        facts["values"] = [(code, value) for code, value in facts["values"] if wanted is Values.POSITIVE and value > 0]
    if as_json:
        listed = facts["values"] and [{"code": code, "value": value} for code, value in facts["values"]]
        say_json(facts | {"values": listed})
    else:
        say(*tables.facts(facts))


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
    from formats.hardware.vectors import write_vectors
    from formats.lookup import get

    for path in write_vectors(get(name), output, top, force=force):
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
    details: Annotated[bool, typer.Option("--details", help="print a row for each category of inputs")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which of another library's roundings are exact, and where the others go wrong. Exit code 1 if one is wrong.

    Examples: formats verify ml_dtypes · formats verify mypackage.casts:to_fp8 --as E4M3 · formats verify
    mypackage.mx:quantize --as MXFP4
    """
    from dataclasses import asdict

    from formats.conformance.compare import verify as check
    from reports.tables import formats as tables

    checks = check(library, as_format, inputs, seed)
    if as_json:
        say_json([asdict(entry) for entry in checks])
    else:
        say(*tables.checks(library, checks, details))
    if any(entry.mismatches for entry in checks):
        raise typer.Exit(INEXACT)


def cost(
    names: Annotated[
        list[str], typer.Argument(help="FP134, INT8, T8.5x3@2, ...; ACTIVATION+ERROR is a pair", metavar="NAME...")
    ],
    accumulator: Annotated[
        str, typer.Option(help="exact (fixed point, nothing is rounded) or float (10 significant bits, as FP169)")
    ] = "exact",
    products: ProductsOption = None,
    verilog: Annotated[Path | None, typer.Option(help="folder for the Verilog of each lane")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what formats cost in hardware: gates of a multiply-accumulate (NAND2 equivalents) with its share of scales,
    conversion and the weight's register; energy; bytes of memory.

    Examples: formats cost INT8 BM25 NVFP4 FP143+FP152 · formats cost T8.5x3@2 --verilog rtl/ --json
    """
    from formats.hardware.lane import Accumulator
    from formats.hardware.totals import PRODUCTS, total_cost
    from formats.hardware.verilog import write_lane
    from reports.tables import formats as tables

    terms = products or PRODUCTS
    costs, refused = [], []
    for name in names:
        try:
            costs.append((name, total_cost(name, accumulator, terms)))
        except ValueError as error:
            refused.append(error)
    if as_json:
        say_json([{"name": name} | of.as_dict() for name, of in costs])
    elif costs:
        say(*tables.costs(costs, accumulator, terms))
    if verilog is not None:
        for name, _ in costs:
            typer.echo(f"wrote {write_lane(name, verilog, Accumulator(accumulator))}", err=as_json)
    if refused:  # the others are told all the same
        raise refused[0]
