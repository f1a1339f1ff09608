"""Commands that show results: plot, table, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.early import check_results
from commands.options import ForceOption, WithinOption, inches, share, split
from commands.printing import say
from commands.unfinished import tell_of_unfinished


def plot(
    given: Annotated[
        list[Path] | None,
        typer.Argument(
            help="a file that `formats rank`, search, attribute, measure or recipes wrote, "
            "dumped tensors (.npz, .npy, .safetensors), or folders of `formats train`",
            metavar="[RESULT]...",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="of a ranking: angles (E against A, the default where it has both), top (the first, intervals, ties), "
            "bars (the first, all effects), pareto (with gates); of angles: bars, by layer layers; "
            "of a search: synthesized; "
            "of recipes: kept (--keep), products (--by both), recipes, the first that is there being the default; "
            "of a validation's runs.csv: validation, gap (beside the bundled trainings); "
            "of folders: flips, oscillation (flips back); of tensors: histograms; of formats alone: profiles"
        ),
    ] = None,
    profiles: Annotated[
        str | None,
        typer.Option(
            help="comma-separated formats: significant bits by binade, "
            "over the histograms of RESULT where that is tensors"
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="the effect of top, pareto and synthesized; default: E where it is there")
    ] = None,
    top: Annotated[int, typer.Option(help="formats that top and bars draw")] = 20,
    within: WithinOption = "1%",
    label: Annotated[
        str, typer.Option(help="comma-separated formats of a ranking that get their name before others do")
    ] = "",
    width: Annotated[
        str | None, typer.Option(help="of the picture, such as 3.4in or 86mm, a paper's column; letters stay as large")
    ] = None,
    title: Annotated[bool, typer.Option("--title/--no-title", help="say above the picture what it shows")] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="a .png, .svg or .pdf; default: beside RESULT, flips.png in the folder of one run, or profiles.png",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Draw a ranking, a search, angles by layer, formats' profiles, tensors' histograms under them, a validation, or
    how many weights flip while training.

    Runs that differ in their seed alone are drawn as their mean and range.

    Examples: formats plot ranking.csv · formats plot ranking.csv --kind bars --top 8 --width 3.4in --no-title -o
    column.pdf · formats plot why.csv --kind layers · formats plot --profiles FP134,BM43,E4M3 · formats plot tensors.npz
    --profiles FP134,INT8 · formats plot runs/log4-* -o flips.pdf ·
    formats plot runs/log4-0 --kind oscillation
    """
    check_results(*(given or []))
    from reports import results
    from reports.plots import drawing, style

    files, names = given or [], split(profiles or "")
    meant = drawing.kind_of(files, kind, names)
    target = output if output is not None else drawing.default_target(files, meant)
    results.check_output(target, style.ENDINGS, force)
    tell_of_unfinished(*files)
    style.save(
        drawing.draw(
            files, meant, names, by, top, share("--within", within), split(label), inches("--width", width), title
        ),
        target,
    )
    say(f"wrote {target}")


def table(
    result: Annotated[Path, typer.Argument(help="a file that `formats rank`, measure or recipes wrote")],
    top: Annotated[
        int, typer.Option(help="formats of a ranking that are shown; those of your own are shown wherever they stand")
    ] = 20,
    columns: Annotated[
        str,
        typer.Option(
            help="comma-separated columns that are shown, such as rank,name,angle_E, of a ranking any of its file; "
            "default: all of the table"
        ),
    ] = "",
    formats: Annotated[
        str,
        typer.Option("--formats", "-f", help="comma-separated formats or recipes whose rows are shown, alone"),
    ] = "",
    within: WithinOption = "1%",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="ends in .tex (for LaTeX's booktabs) or .md; default: on the screen"),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Show the table of a result again, or write it for a paper.

    Examples: formats table ranking.csv --top 8 -o ranking.tex · formats table ranking.csv --formats FP134,INT8
    --columns rank,name,angle_E -o column.tex · formats table recipes.csv -o recipes.md
    """
    check_results(result)
    from numeric_formats.files import write_atomically
    from reports import results
    from reports.tables import paper

    if output is not None:
        results.check_output(output, tuple(paper.WRITERS), force)
    tell_of_unfinished(result)
    found = paper.table_of(result, top, share("--within", within), split(columns), split(formats))
    if output is None:
        say(*found)
        return
    write_atomically(output, paper.WRITERS[output.suffix.lower()](found).encode())
    say(f"wrote {output}")


def report(
    given: Annotated[
        list[Path],
        typer.Argument(help="a ranking, what `formats recipes` wrote, or one of each", metavar="RESULT..."),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", "-o", help="where the page goes; default: beside the first RESULT")
    ] = None,
    within: WithinOption = "1%",
    force: ForceOption = False,
) -> None:
    """Make one page of a ranking, of recipes or of both that needs no network: the verdict, tables and plots that
    answer to each other, every format's profile and values, products of layers, how it was made.

    Examples: formats report ranking.csv · formats report recipes.csv · formats report ranking.parquet recipes.csv
    --html report.html --force
    """
    check_results(*given)
    from reports import results
    from reports.page import html as page

    target = html if html is not None else given[0].with_suffix(".html")
    results.check_output(target, page.ENDINGS, force)
    tell_of_unfinished(*given)
    page.write(given, target, share("--within", within))
    say(f"wrote {target}")
