"""The command line: parse, call one function, print."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from search.stages import Progress
    from training.train import Progress as TrainingProgress
    from training.validation import At

app = typer.Typer(
    name="formats",
    help="Which 6- to 8-bit number format should a training chip use? Rank formats on a pretrained network, without training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
bench = typer.Typer(help="Time the emulator and quantized gradients on this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")
cache = typer.Typer(help="Look at the store of exact measurements, or empty it.", no_args_is_help=True)
app.add_typer(cache, name="cache")

INTERRUPTED = 130
BAD_INPUT = 2

MODEL_HELP = "resnet18, resnet20, mobilenetv2, lstm, transformer, detector, torchvision:NAME, timm:NAME, hf:NAME, package.module:function or file.py:function"
ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="of a public network: imagefolder:PATH, cifar10[:PATH], cifar100[:PATH] or text:PATH", metavar="KIND:PATH"
    ),
]
WEIGHTS_HELP = (
    "of a public network: a local file (.pth, .pt, .safetensors; for hf also a folder) instead of the public weights"
)
WeightsOption = Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="write .csv, .json or .parquet, and a .meta.json beside it")
]
ForceOption = Annotated[bool, typer.Option("--force", help="replace an existing output")]
MinibatchesOption = Annotated[
    int | None, typer.Option(help="mini-batches that all formats share; default: 8, or all where there are fewer")
]
BatchSizeOption = Annotated[int | None, typer.Option(help="examples a mini-batch; default: the workload's")]
EffectsOption = Annotated[
    str,
    typer.Option(
        help="comma-separated: E (errors), A (activations), AE (both); by request W (weights), WAE (all three)"
    ),
]
FittedOption = Annotated[str, typer.Option("--effects", help="comma-separated: E (errors), A (activations), AE (both)")]
ExactOption = Annotated[
    list[str] | None, typer.Option("--exact", help="keep this layer in full precision (may be repeated)")
]
TwoTermsOption = Annotated[
    bool, typer.Option("--two-terms/--one-term", help="round inputs and last errors in two terms")
]
WorkersOption = Annotated[int | None, typer.Option(help="measure in this many processes, which share the cores")]
ClusterOption = Annotated[str | None, typer.Option(help="measure on a Ray cluster: auto, or its address as HOST:PORT")]
DeviceOption = Annotated[str, typer.Option(help="where the network runs: cpu, cuda (the first GPU), cuda:1, ...")]
StoreOption = Annotated[
    bool, typer.Option("--store/--no-store", help="find and keep exact measurements in the user's cache")
]
BitsOption = Annotated[int | None, typer.Option(help="only formats of this width: 8, 7 or 6")]
FamilyOption = Annotated[str | None, typer.Option(help="only this family: INT, FP, tapered or BM")]
WidthOption = Annotated[int, typer.Option("--bits", help="width of the formats that are searched: 2 to 8")]
ShapeOption = Annotated[
    str, typer.Option(help="how precision may go from the top down: any, unimodal or non-increasing")
]
MaxPrecisionsOption = Annotated[
    int | None, typer.Option(help="synthesize at most this many different precisions in a format")
]
MaxRunsOption = Annotated[
    int | None, typer.Option(help="synthesize at most this many runs of equal precision in a format")
]
HeadroomOption = Annotated[
    str, typer.Option(help="comma-separated: binades that may be left free above the largest magnitude")
]
PassesOption = Annotated[int, typer.Option("--noise-passes", help="mini-batches whose tensors the synthesis sees")]
MaxBinadesOption = Annotated[int | None, typer.Option(help="only formats of at most this many binades")]


def _split(text: str) -> list[str]:
    """Names between commas; the commas inside a written-out profile or BM<e,m> stay."""
    parts: list[str] = []
    for piece in text.split(","):
        last = parts[-1] if parts else ""
        inside = last.lower().rpartition("+")[2].startswith("profile:") and piece[:1].isdigit()
        if inside or ("<" in last and ">" not in last):
            parts[-1] += "," + piece
        else:
            parts.append(piece.strip())
    return [part for part in parts if part]


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    try:
        return tuple(int(part) for part in _split(text))
    except ValueError:
        raise ValueError(f"{option} {text!r}: whole numbers between commas are needed") from None


def _command() -> str:
    """The command that was given, as a shell takes it."""
    import shlex

    return shlex.join(["formats", *sys.argv[1:]])


@contextmanager
def _progress() -> Iterator[Any]:
    """A function that shows a ranking's progress, with the time left, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True))
    tasks: dict[str, Any] = {}

    def show(progress: Progress) -> None:
        if not tasks and bar.console.is_terminal:
            bar.start()
        if progress.stage not in tasks:
            tasks[progress.stage] = bar.add_task(progress.stage.value, total=progress.total)
        task = bar.tasks[tasks[progress.stage]]
        if progress.done < task.completed:  # of the next network
            bar.reset(task.id, total=progress.total)
        tenth = int(10 * progress.done / progress.total)
        if not bar.console.is_terminal and tenth > int(10 * task.completed / progress.total):
            # A log gets a line every tenth.
            left = task.elapsed / progress.done * (progress.total - progress.done) if task.elapsed else 0
            typer.echo(f"{progress.stage.value} {progress.done}/{progress.total}, about {left:.0f} s left", err=True)
        bar.update(task.id, completed=progress.done)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def _measuring(workers: int | None, cluster: str | None, store: bool, device: str) -> Iterator[dict[str, Any]]:
    """What measures, where measurements are kept, and the progress bar: arguments that ranking and searching share."""
    from predictor.measuring.session import executor_of
    from predictor.measuring.store import Store

    with ExitStack() as stack:
        executor = stack.enter_context(executor_of(workers, cluster, device))
        kept = stack.enter_context(Store.open()) if store else None
        yield {"executor": executor, "store": kept, "progress": stack.enter_context(_progress())}


@contextmanager
def _line(description: str, again: str) -> Iterator[Any]:
    """A function (done, of, text) that shows progress on one line of standard error; a log gets a line every tenth.
    again: what Ctrl-C has one told."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True))
    task = bar.add_task(description)
    if bar.console.is_terminal:
        bar.start()

    def show(done: int, of: int, text: str) -> None:
        if not bar.console.is_terminal and 10 * done // of > 10 * (done - 1) // of:
            typer.echo(f"step {done}/{of}, {text}", err=True)
        bar.update(task, completed=done, total=of, description=text)

    try:
        yield show
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if bar.live.is_started:
            bar.stop()


def _resuming(output: Path | None, kept: str) -> str:
    return (
        "nothing is kept without --output"
        if output is None
        else f"the same command with --resume goes on from {kept} in {output}"
    )


@contextmanager
def _training_line(output: Path | None) -> Iterator[Any]:
    """A function that shows a training run's progress."""
    with _line("training", _resuming(output, "the last checkpoint")) as show:

        def show_training(at: TrainingProgress) -> None:
            metric = "" if at.metric is None else f", metric {at.metric:.4f}"
            show(at.step, at.steps, f"epoch {at.epoch}/{at.epochs}, loss {at.loss:.4f}{metric}")

        yield show_training


@contextmanager
def _quantization_line(output: Path | None) -> Iterator[Any]:
    """A function that shows how far each stage of a quantization is."""
    with _line("quantizing", _resuming(output, "what was finished")) as show:
        yield lambda at: show(at.done, at.of, at.stage)


@contextmanager
def _validation_line() -> Iterator[Any]:
    """A function that shows how far all trainings of a validation are, and the one at hand."""
    with _line("trainings", "the same command goes on") as show:

        def show_validation(at: At) -> None:
            training = at.training
            done = (at.run - 1) * training.steps + training.step
            show(
                done,
                at.runs * training.steps,
                f"run {at.run}/{at.runs}, {at.name} seed {at.seed}, loss {training.loss:.4f}",
            )

        yield show_validation


def _print(value: object) -> None:
    """To standard output; a table keeps its width where that is a file or a pipe."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(value, markup=False, highlight=False)


@app.command("list")
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
    from reports.tables import plain

    headers = [
        ("format", "left"),
        *((key.replace("_", " "), "right" if key in ("bits", "binades") else "left") for key in keys[1:]),
    ]
    _print(
        plain(None, headers, [[written(v) if isinstance(v, tuple) else _text(v) for v in row.values()] for row in rows])
    )
    if standards:
        _print("and posit<n,es>, minifloat(x,y,bias=b), P3109:k.p.{signed,unsigned}.{finite,extended}, INTn/real, LOG4")
    _print(f"{len(rows)} {'standards' if standards else 'formats'}")


def _text(value: object) -> str:
    """A fact in a table."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {entry}" for key, entry in value.items()) or "none"
    return "-" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)


@app.command()
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
    from reports.tables import plain

    _print(
        plain(
            facts["name"],
            [("", "left"), ("", "left")],
            [[key.replace("_", " "), _text(value)] for key, value in facts.items()],
        )
    )
    if values is None:
        _print(f"{facts['number_of_values']} values, too many to list")
        return
    rows = [[f"0x{code:02X}", f"{code:0{facts['bits']}b}", f"{value:.9g}"] for code, value in values]
    _print(plain("values", [("code", "left"), ("bits", "left"), ("value", "right")], rows))


@app.command()
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
        _print(f"wrote {path}")


@app.command()
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
        _print(plain(library, headers, rows))
        wrong = sorted({c.subject for c in checks if c.mismatches})
        exact = len({c.subject for c in checks}) - len(wrong)
        _print(f"{exact} roundings exact, {len(wrong)} not" + (f": {', '.join(wrong)}" if wrong else ""))
    if any(c.mismatches for c in checks):
        raise typer.Exit(1)


@app.command()
def points(
    model: ModelOption,
    data: DataOption = None,
    weights: WeightsOption = None,
    exact: ExactOption = None,
    tensors: Annotated[
        Path | None,
        typer.Option(
            help="write the activations and errors of a mini-batch to this .npz, for `formats plot` and `formats fit`"
        ),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="with --tensors: only of this layer (may be repeated)")
    ] = None,
    batch_size: BatchSizeOption = None,
    force: ForceOption = False,
) -> None:
    """List where a model's data flow is quantized, what has no point, and what is kept exact; or write the tensors that
    are there.

    Examples: formats points --model resnet18 · formats points -m resnet20 --tensors dump.npz --layer conv1 --layer fc
    · formats points -m hf:gpt2 --data text:book.txt
    """
    from predictor.listing import list_points
    from reports import results
    from reports.tables import plain
    from workloads import load

    if layer and tensors is None:
        raise ValueError("--layer chooses what --tensors writes")
    if tensors is not None:
        results.check_output(tensors, (".npz",), force)
    workload = load(model, data, weights)
    if tensors is not None:
        from predictor.record import record, write

        found = record(workload, layer or (), batch_size)
        write(found, tensors)
        _print(f"wrote {len(found)} tensors to {tensors}")
        return
    listed, skipped = list_points(workload, exact or ())
    headers = [("point", "right"), ("layer", "left"), ("operation", "left"), ("shape", "left"), ("", "left")]
    _print(plain(f"{model}: points", headers, listed))
    _print(plain("no point", [("layer", "left"), ("operation", "left"), ("shape", "left"), ("why", "left")], skipped))
    _print(f"{len(listed)} points")


@app.command()
def measure(
    model: ModelOption,
    formats: Annotated[str, typer.Option("--formats", "-f", help="comma-separated names; ACTIVATION+ERROR is a pair")],
    data: DataOption = None,
    weights: WeightsOption = None,
    effects: EffectsOption = "E,A,AE",
    minibatches: MinibatchesOption = None,
    batch_size: BatchSizeOption = None,
    scope: Annotated[str, typer.Option(help="all, first, layers, or a parameter's name")] = "all",
    exact: ExactOption = None,
    two_terms: TwoTermsOption = True,
    device: DeviceOption = "cpu",
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Measure the angles of some formats exactly.

    Examples: formats measure -m resnet18 -f FP134,FP143 · formats measure -m mine.py:net -f FP143+FP152 --scope layers
    """
    from predictor import measure as measure_angles
    from predictor.device import on_device
    from reports import results, tables
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    names = _split(formats)
    workload = on_device(load(model, data, weights), device)
    found = measure_angles(
        workload,
        names,
        _split(effects),
        minibatches,
        batch_size=batch_size,
        scopes=[scope],
        exact=exact or (),
        two_terms=two_terms,
    )
    _print(tables.measurement(found))
    if output is not None:
        results.write(
            found, output, {"workload": model, "formats": names, "minibatches": minibatches, "batch_size": batch_size}
        )
        _print(f"wrote {output}")


@app.command()
def attribute(
    model: ModelOption,
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="a name, or ACTIVATION+ERROR: the first rounds W and A, the second E and G"
        ),
    ],
    data: DataOption = None,
    weights: WeightsOption = None,
    minibatches: Annotated[
        int | None, typer.Option(help="mini-batches; default: 4, or all where there are fewer")
    ] = None,
    batch_size: BatchSizeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done and how long it takes, then stop")
    ] = False,
    exact: ExactOption = None,
    two_terms: TwoTermsOption = True,
    top: Annotated[int, typer.Option(min=1, help="layers to print")] = 20,
    output: OutputOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="draw the kinds and the largest layers as .png, .svg or .pdf")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Say what causes a format's angle: which tensors (W, A, E, G) and which layers, each alone and each left out.

    Ctrl-C keeps the rows that were finished.

    Examples: formats attribute -m resnet20 -f FP134 --plot why.png · formats attribute -m mine.py:net -f E4M3+E5M2 -o
    why.csv
    """
    from predictor.attribution import attribute as attribute_angle
    from predictor.attribution import estimate
    from reports import plots, results, tables
    from search.stages import Progress, Stage
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    if plot is not None:
        results.check_output(plot, plots.ENDINGS, force)
    workload, kept = load(model, data, weights), exact or ()
    if dry_run:
        work = estimate(workload, format, minibatches, batch_size=batch_size, exact=kept, two_terms=two_terms)
        _print(
            f"{model}: {work.points} points; {work.rows} rows, {work.gradients} quantized gradients on {work.minibatches} mini-batches; "
            f"about {work.seconds / 60:.1f} minutes"
        )
        return
    with _progress() as show:
        found = attribute_angle(
            workload,
            format,
            minibatches,
            batch_size=batch_size,
            exact=kept,
            two_terms=two_terms,
            progress=lambda done, total: show(Progress(Stage.MEASURE, done, total)),
        )
    settings: dict[Any, Any] = found.attrs
    title = f"{model}: what causes the angle of {', '.join(settings['formats'])}"
    for part in tables.attribution(found, top, title):
        _print(part)
    _print("mean ± 95% half-width over mini-batches; share: tan² of the angle alone, over all kinds or all layers")
    if not settings["complete"]:
        _print(
            f"ended early by an interrupt: {settings['gradients']} quantized gradients were computed; finished rows are kept"
        )
    if output is not None:
        results.write(found, output, settings)
        _print(f"wrote {output} and {results.sidecar_of(output)}")
    if plot is not None:
        plots.save(plots.attribution(found, title), plot)
        _print(f"wrote {plot}")
    if not settings["complete"]:
        raise typer.Exit(INTERRUPTED)


@app.command()
def rank(
    model: Annotated[
        list[str],
        typer.Option("--model", "-m", help=f"{MODEL_HELP}; several give one ranking over all"),
    ],
    data: DataOption = None,
    weights: WeightsOption = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "-f",
            help="comma-separated names, or files (.py, .toml) that define formats, instead of the whole catalogue",
        ),
    ] = None,
    bits: BitsOption = None,
    family: FamilyOption = None,
    max_binades: MaxBinadesOption = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="rank every format with each of these: headroom=0,1,2, scale=floor,rceil or block=16,32 (may be repeated)",
        ),
    ] = None,
    effects: EffectsOption = "E,A,AE",
    by: Annotated[str | None, typer.Option(help="the effect that orders the table; default: AE")] = None,
    minibatches: Annotated[
        int | None,
        typer.Option(
            help="mini-batches that angles are averaged over; default: 16, 4 for at most 24 formats, with --exhaustive all"
        ),
    ] = None,
    batch_size: BatchSizeOption = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="measure every format, not only the promising ones")
    ] = False,
    time_budget: Annotated[
        float | None, typer.Option(help="seconds after which measuring stops with what it has")
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="add the gates of a multiply-accumulate lane to the table")
    ] = False,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done and how long it takes, then stop")
    ] = False,
    exact: ExactOption = None,
    two_terms: TwoTermsOption = True,
    top: Annotated[int, typer.Option(min=1, help="rows of the table to print")] = 20,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Rank formats by how little they turn a pretrained network's weight gradient.

    The noise of every format is read from one full-precision pass; a few that stand for all are measured, the promising
    ones race on more and more mini-batches, and the rest are predicted (marked ~) with intervals that held-out formats
    have confirmed. Every exact measurement is kept, so that Ctrl-C, a larger budget or one more format cost nothing
    twice.

    With several models, formats are ordered by their mean rank, beside the largest angle that they have on any.

    Examples: formats rank --model resnet18 --output ranking.csv · formats rank -m mine.py:net --bits 8 --exhaustive
    --minibatches 16 · formats rank -m timm:resnet18 --data imagefolder:photos --weights mine.pth · formats rank -m
    hf:gpt2 --data text:book.txt · formats rank -m resnet18 -m resnet20 -o both.csv · formats rank -m resnet20 -f
    FP134,BM43 --sweep headroom=0,1 --sweep scale=floor,rceil
    """
    from predictor.device import on_device
    from reports import results, tables
    from search.across import rank_across
    from search.candidates import choose
    from search.stages import plan
    from search.stages import rank as rank_formats
    from search.sweep import parse_axes
    from search.sweep import sweep as sweep_scales
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    chosen = choose(None if formats is None else _split(formats), bits, family, max_binades)
    if sweep:
        chosen = sweep_scales(chosen, parse_axes(sweep))
    wanted = _split(effects)
    workloads = {name: on_device(load(name, data, weights), device) for name in model}
    if dry_run:
        for name, workload in workloads.items():
            planned = plan(
                workload, chosen, effects=wanted, minibatches=minibatches, batch_size=batch_size, exhaustive=exhaustive
            )
            _print(
                f"{name}: {planned.points} points; {planned.candidates} formats, at most {planned.measured} measured on at most {planned.minibatches} mini-batches: "
                f"{planned.gradients} quantized gradients (exhaustive: {planned.exhaustive}), about {planned.seconds / 60:.1f} minutes"
            )
        return
    options: dict[str, Any] = {
        "effects": wanted,
        "by": by,
        "minibatches": minibatches,
        "batch_size": batch_size,
        "exhaustive": exhaustive,
        "time_budget": time_budget,
        "exact": exact or (),
        "two_terms": two_terms,
        "with_cost": cost,
    }
    forced = " with --force" if output is not None and not force else ""
    if len(workloads) > 1:
        with _measuring(workers, cluster, store, device) as measuring:
            across = rank_across(workloads, chosen, **options, **measuring)
        _print(
            tables.across(
                across.table,
                top,
                f"{', '.join(across.rankings)}: {len(across.table)} formats by mean rank, angles of {across.settings['effect']}",
            )
        )
        _print("angles: mean and 95% half-width; ~ predicted; equal ranks are ties")
        if not across.complete:
            _print(
                f"ended early, with {len(across.rankings)} of {len(workloads)} models"
                + (f"; the same command{forced} goes on from there" if store else "")
            )
        if output is not None:
            results.write(across.table, output, across.settings | {"command": _command()})
            _print(f"wrote {output} and {results.sidecar_of(output)}")
        if not across.complete and time_budget is None:
            raise typer.Exit(INTERRUPTED)
        return
    [(name, workload)] = workloads.items()
    with _measuring(workers, cluster, store, device) as measuring:
        found = rank_formats(workload, chosen, **options, **measuring)
    s = found.settings
    title = f"{name}: {s['candidates']} formats by the angle of {found.by} over {s['minibatches']} mini-batches; {s['measured']} measured"
    _print(tables.ranking(found.table, top, title))
    _print("angles: mean and 95% half-width; ~ predicted; equal ranks are ties")
    winner = found.table["name"].iloc[0]
    if s["regret_at_most"] == s["regret_at_most"]:  # not a number where there was one mini-batch
        _print(
            f"no other is better than {winner} by more than {s['regret_at_most']:.2g} degrees (97.5% confidence for each)"
        )
    _print(
        f"{s['gradients']} gradients were needed, {s['exhaustive_gradients']} would measure all; {s['seconds']:.0f} s"
    )
    if not found.complete:
        reason = "the time budget" if time_budget is not None and s["seconds"] >= time_budget else "an interrupt"
        again = f"; the same command{forced} goes on from there" if store else ""
        _print(f"ended early by {reason}: {s['gradients']} measurements were made and are kept{again}")
    if output is not None:
        results.write(found.table, output, found.settings | {"command": _command()})
        _print(f"wrote {output} and {results.sidecar_of(output)}")
    if not found.complete and (time_budget is None or s["seconds"] < time_budget):
        raise typer.Exit(INTERRUPTED)


@app.command()
def train(
    model: ModelOption,
    epochs: Annotated[int, typer.Option(help="passes over the training mini-batches")],
    data: DataOption = None,
    weights: WeightsOption = None,
    activation: Annotated[
        str | None,
        typer.Option(
            "--activation",
            "-A",
            help="format of activations; float32 leaves a tensor as it is; default: FP134, with --method float32",
        ),
    ] = None,
    error: Annotated[str | None, typer.Option("--error", "-E", help="format of errors; default as for -A")] = None,
    weight: Annotated[
        str | None, typer.Option("--weight", "-W", help="format of weights, such as LOG4; default as for -A")
    ] = None,
    gradient: Annotated[
        str | None, typer.Option("--gradient", "-G", help="format of weight gradients; default as for -A")
    ] = None,
    master: Annotated[
        str | None, typer.Option(help="format of master weights and momentum; default: FP169, with --method float32")
    ] = None,
    weight_rounding: Annotated[str, typer.Option(help="nearest, stochastic or hysteresis")] = "hysteresis",
    master_rounding: Annotated[str, typer.Option(help="nearest or stochastic")] = "stochastic",
    scale: Annotated[str, typer.Option(help="of activations, errors and gradients: delayed or current")] = "delayed",
    two_terms: TwoTermsOption = True,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="a published method (`formats methods`); twice to combine two", metavar="NAME"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="an option of the method (may be repeated)", metavar="KEY=VALUE"),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help="scratch, pretrained, or the folder of a formats quantize --output, with --method lsq or lsqplus",
        ),
    ] = "scratch",
    optimizer: Annotated[str, typer.Option(help="sgd or adamw")] = "sgd",
    rate: Annotated[float, typer.Option(help="the largest learning rate")] = 0.1,
    momentum: Annotated[float, typer.Option(help="of SGD, or AdamW's first")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="weight decay")] = 5e-4,
    schedule: Annotated[str, typer.Option(help="constant, cosine, or steps (a tenth after 1/2 and 3/4)")] = "cosine",
    warmup: Annotated[int, typer.Option(help="steps in which the learning rate rises")] = 0,
    batch_size: BatchSizeOption = None,
    seed: Annotated[int, typer.Option(help="decides weights, order and stochastic rounding")] = 0,
    loss_bound: Annotated[float, typer.Option(help="a loss above it ends the run as diverged")] = 1000.0,
    angle_every: Annotated[
        int, typer.Option(help="steps between samples of the angle to the full-precision gradient; 0: none")
    ] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints; 0: at the end of epochs alone")] = 0,
    device: DeviceOption = "cpu",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for checkpoint, metrics and settings")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the checkpoint in --output, if there is one")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier run in --output")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="write into --output for TensorBoard too")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            help="write what --method trained as codes and scales: a .safetensors, or an .onnx with INT8 or INT4"
        ),
    ] = None,
) -> None:
    """Train a network with everything rounded: activations, errors, weights, gradients, master weights and momentum.

    A run that was ended at any moment goes on with --resume, to the same bits at the same number of threads. Exit code
    1 if it diverged.

    Examples: formats train -m resnet20 --epochs 5 -o runs/fp134 · formats train -m resnet20 --epochs 5 -W LOG4 -o
    runs/log4 --resume · formats train -m mine.py:net --epochs 1 --from pretrained -A E4M3 -E E5M2 --rate 0.01 · formats
    train -m resnet20 --epochs 5 --method ui8 --option alpha=10 --option format=FP134 · formats train -m resnet20
    --epochs 3 --method lsq --from pretrained --rate 0.01 --export lsq.onnx · formats train -m resnet20 --epochs 3
    --method lsq --from runs/w4a8 --option activation_bits=8 --rate 0.01
    """
    from predictor.device import on_device
    from reports.tables import plain
    from training import train as train_network
    from training.checkpoint import NAME
    from training.export.codes import check_export, export_to
    from training.methods import method_from
    from workloads import load

    if resume and output is None:
        raise ValueError("--resume needs --output, the folder of the run to go on with")
    if option and not method:
        raise ValueError("--option is for --method; formats methods lists methods and options")
    if export is not None:
        if not method:
            raise ValueError("--export is for --method; formats methods lists methods")
        check_export(export)
    if start not in ("scratch", "pretrained") and not Path(start).is_dir():
        raise ValueError(
            f"--from {start!r}: allowed are scratch, pretrained, and a folder of formats quantize --output"
        )
    workload, ranges = load(model, data, weights), None
    if start not in ("scratch", "pretrained"):
        from training.calibration import begin_from

        if not method:
            raise ValueError("--from with a folder is for --method lsq or lsqplus, whose steps begin with its ranges")
        workload, ranges = begin_from(start, workload)
        _print(f"{start} holds {ranges.formats}; the bits of training are the method's own options (formats methods)")
        start = "pretrained"
    workload = on_device(workload, device)
    with _training_line(output) as show:
        result = train_network(
            workload,
            activation=activation,
            error=error,
            weight=weight,
            gradient=gradient,
            master=master,
            weight_rounding=weight_rounding,
            master_rounding=master_rounding,
            scale=scale,
            two_terms=two_terms,
            method=method_from(method, option or (), ranges) if method else None,
            epochs=epochs,
            seed=seed,
            output=output,
            resume=resume,
            force=force,
            tensorboard=tensorboard,
            progress=show,
            start=start,
            optimizer=optimizer,
            rate=rate,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
            batch_size=batch_size,
            loss_bound=loss_bound,
            angle_every=angle_every,
            checkpoint_every=checkpoint_every,
        )
    rows = [
        [str(row.epoch), f"{row.loss:.4f}", f"{row.metric:.4f}".replace("nan", "-")]
        for row in result.epochs.itertuples()
    ]
    _print(plain(f"{model}: {result.outcome}", [("epoch", "right"), ("loss", "right"), ("metric", "right")], rows))
    if output is not None:
        _print(f"wrote {output}")
    if result.reason:
        kept = output is not None and (output / NAME).exists()
        _print(f"diverged: {result.reason}" + (f"; the last checkpoint is in {output}" if kept else ""))
        raise typer.Exit(1)
    if export is not None:
        assert result.run is not None
        export_to(export, workload, result.model, result.run)
        _print(f"wrote {export}")


@app.command()
def validate(
    ranking: Annotated[Path, typer.Argument(help="a ranking that `formats rank --output` wrote")],
    model: ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="folder of the trainings and of what comes out of them")
    ],
    data: DataOption = None,
    weights: WeightsOption = None,
    count: Annotated[int, typer.Option(help="formats to take from all over the ranking")] = 24,
    formats: Annotated[str, typer.Option("--formats", "-f", help="comma-separated names to train beside them")] = "",
    seeds: Annotated[int, typer.Option(help="trainings of each format")] = 2,
    effect: Annotated[str, typer.Option(help="the effect whose angle is compared: E, A or AE")] = "AE",
    epochs: Annotated[int, typer.Option(help="passes over the training mini-batches")] = 5,
    start: Annotated[str, typer.Option("--from", help="scratch or pretrained")] = "scratch",
    rate: Annotated[float, typer.Option(help="the largest learning rate")] = 0.1,
    batch_size: BatchSizeOption = None,
    weight: Annotated[
        str, typer.Option("--weight", "-W", help="format of weights; same: the one under test")
    ] = "float32",
    gradient: Annotated[
        str, typer.Option("--gradient", "-G", help="format of weight gradients; same: the one under test")
    ] = "float32",
    master: Annotated[str, typer.Option(help="format of master weights and momentum")] = "float32",
    weight_rounding: Annotated[str, typer.Option(help="nearest, stochastic or hysteresis")] = "hysteresis",
) -> None:
    """Train formats from all over a ranking, and see whether the angle has predicted how well each goes.

    Every format rounds activations and errors, which is what the angle is about, in trainings from the same seeds;
    --weight, --gradient and --master round the rest too. The choice is written down before the first. A
    finished training is not done again and an ended one goes on: give the same command again, or in a second terminal
    to share the work.

    Examples: formats rank -m resnet20 -o ranking.csv && formats validate ranking.csv -m resnet20 -o runs/validate
    · formats validate ranking.csv -m resnet20 -o runs/few --count 6 --epochs 1 --formats FP134,INT8
    """
    from dataclasses import asdict

    from reports import plots, results, validation
    from training.validation import validate as validate_ranking
    from workloads import load

    table = results.read(ranking, ("name", "bits", f"angle_{effect}"))
    with _validation_line() as show:
        found = validate_ranking(
            load(model, data, weights),
            table,
            output=output,
            count=count,
            formats=_split(formats),
            seeds=seeds,
            effect=effect,
            weight=weight,
            gradient=gradient,
            master=master,
            epochs=epochs,
            progress=show,
            start=start,
            rate=rate,
            batch_size=batch_size,
            weight_rounding=weight_rounding,
        )
    agreement = found.agreement
    _print(
        validation.table(found.runs, f"{model}: {agreement.formats} formats, {seeds} trainings of {epochs} epochs each")
    )
    _print(validation.sentence(agreement, effect))
    results.write(found.runs, output / "runs.csv", found.settings | {"agreement": asdict(agreement)})
    plots.save(
        plots.loss_against_angle(found.runs, f"{model}: does the angle ({effect}) predict training?"),
        output / "loss_against_angle.png",
    )
    _print(f"wrote {output / 'runs.csv'} and {output / 'loss_against_angle.png'}")


@app.command()
def quantize(
    model: ModelOption,
    data: DataOption = None,
    weights_file: Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)] = None,
    weights: Annotated[
        str, typer.Option("--weights", "-W", help="format of weights; float32 leaves them as they are")
    ] = "INT4",
    activations: Annotated[
        str, typer.Option("--activations", "-A", help="format of layers' inputs; integers get a zero point")
    ] = "INT8",
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="fold batch normalization into the layers before it")
    ] = True,
    cle: Annotated[
        bool, typer.Option("--cle/--no-cle", help="equalize the ranges of neighbouring layers' channels")
    ] = True,
    relu6: Annotated[
        str, typer.Option(help="of equalization: cap (one a channel, exact) or replace (by ReLU)")
    ] = "cap",
    absorb: Annotated[str, typer.Option(help="high biases: all, exact (not where padding reads zeros) or off")] = "all",
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="a scale for each output channel of a weight")
    ] = False,
    weight_range: Annotated[str, typer.Option(help="minmax, mse or percentile")] = "mse",
    activation_range: Annotated[
        str, typer.Option(help="minmax, mse, percentile or bn (from batch normalization)")
    ] = "mse",
    logits_range: Annotated[str, typer.Option(help="cross-entropy, mse, minmax, percentile, or off")] = "cross-entropy",
    adaround: Annotated[
        bool, typer.Option("--adaround/--no-adaround", help="learn which way each weight is rounded")
    ] = True,
    adaround_iterations: Annotated[int, typer.Option(help="steps for each layer")] = 600,
    adaround_rate: Annotated[float, typer.Option(help="its learning rate; the paper: 0.001 with 10000 steps")] = 0.01,
    bias_correction: Annotated[str, typer.Option(help="off, empirical or analytic; of use without AdaRound")] = "off",
    minibatches: Annotated[int, typer.Option(help="mini-batches of calibration data")] = 8,
    batch_size: BatchSizeOption = None,
    seed: Annotated[int, typer.Option(help="decides the mini-batches of AdaRound")] = 0,
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="measure what each layer costs")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for checkpoints and result.json")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with what is in --output")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier run in --output")] = False,
    export: Annotated[
        Path | None, typer.Option(help="write codes and scales: a .safetensors, or an .onnx with INT8 or INT4")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Quantize a trained network without training it, and see what each step and each layer costs.

    Batch normalization is folded, neighbouring layers are equalized, high biases absorbed, ranges set, weights rounded
    by AdaRound, ranges of activations set. A run with --output that was ended at any moment goes on with --resume, to
    the same bits at the same number of threads.

    Examples: formats quantize -m resnet20 --weights INT4 --activations INT8 -o runs/w4a8 · formats quantize -m resnet20
    -W E2M1 -A FP134 --no-adaround
    --bias-correction analytic · formats quantize -m mine.py:net --per-channel --export net.onnx · formats quantize -m
    resnet20 -o runs/w4a8 --resume
    """
    import json

    from reports import tables
    from training.calibration import AdaRound
    from training.calibration import quantize as quantize_network
    from training.export.codes import check_export, export_to
    from workloads import load

    if resume and output is None:
        raise ValueError("--resume needs --output, the folder of the run to go on with")
    if export is not None:
        check_export(export)
        if weights.strip().lower() == "float32":
            raise ValueError("--export writes weights as codes; give --weights a format")
    workload = load(model, data, weights_file)
    with _quantization_line(output) as show:
        result = quantize_network(
            workload,
            weights,
            activations,
            fold=fold,
            equalize=cle,
            relu6=relu6,
            absorb=absorb,
            per_channel=per_channel,
            weight_range=weight_range,
            activation_range=activation_range,
            logits_range=None if logits_range == "off" else logits_range,
            adaround=AdaRound(iterations=adaround_iterations, rate=adaround_rate) if adaround else None,
            bias_correction=bias_correction,
            minibatches=minibatches,
            batch_size=batch_size,
            seed=seed,
            rank_layers=layers,
            output=output,
            resume=resume,
            force=force,
            progress=show,
        )
    if as_json:
        typer.echo(json.dumps(result.plain(), indent=1))
    else:
        for part in tables.quantization(result, f"{model}: {weights} weights, {activations} activations"):
            _print(part)
        if result.kept:
            _print(
                f"left in float32, since only convolution and linear modules are quantized: {', '.join(result.kept)}"
            )
    if export is not None:
        export_to(export, workload, result.network, result.run)
    if not as_json:
        for written in (output, export):
            if written is not None:
                _print(f"wrote {written}")


@app.command()
def methods(as_json: Annotated[bool, typer.Option("--json", help="print JSON, with all options")] = False) -> None:
    """List the published training methods: what each quantizes, granularity, rounding of errors, source.

    Example: formats methods --json
    """
    import json

    from training.methods import described

    rows = described()
    if as_json:
        typer.echo(json.dumps(rows))
        return
    from reports.tables import plain

    # Two tables, since one would be wider than a page.
    for keys in (
        ("name", "weight", "activation", "error", "source"),
        ("name", "gradient", "granularity", "rounding", "layers"),
    ):
        _print(plain(None, [(key, "left") for key in keys], [[row[key] for key in keys] for row in rows]))
    for row in rows:
        _print(f"{row['name']}: " + ", ".join(f"{key}={value}" for key, value in row["options"].items()))


@app.command()
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

    from formats.hardware.cost import cost as cost_of
    from formats.hardware.lane import Accumulator
    from formats.hardware.verilog import write

    costs = [cost_of(name, accumulator) for name in names]
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
        _print(
            plain(
                f"NAND2 equivalents, {accumulator} accumulator",
                [("format", "left"), *((column, "right") for column in columns)],
                rows,
            )
        )
    if verilog is not None:
        for name in names:
            path = write(name, verilog, Accumulator(accumulator))
            typer.echo(f"wrote {path}", err=as_json)


@app.command()
def search(
    model: ModelOption,
    data: DataOption = None,
    weights: WeightsOption = None,
    bits: WidthOption = 8,
    effects: FittedOption = "E,A,AE",
    max_binades: MaxBinadesOption = None,
    shape: ShapeOption = "any",
    max_precisions: MaxPrecisionsOption = None,
    max_runs: MaxRunsOption = None,
    headroom: HeadroomOption = "0,1",
    best: Annotated[int, typer.Option(help="formats to synthesize for each effect, and pairs for AE")] = 3,
    noise_passes: PassesOption = 1,
    minibatches: MinibatchesOption = None,
    batch_size: BatchSizeOption = None,
    exact: ExactOption = None,
    two_terms: TwoTermsOption = True,
    average_bits: Annotated[
        float | None,
        typer.Option(help="a format for each layer instead, of at most so many bits on average; nothing is measured"),
    ] = None,
    widths: Annotated[str, typer.Option(help="with --average-bits: the widths that a layer may have")] = "4,5,6,7,8",
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="add the gates of each format's lane, and which formats no other beats in both angle and gates",
        ),
    ] = False,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "cpu",
    store: StoreOption = True,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Find the best formats for a network among all precision profiles, and measure them beside the best known ones.

    How much each tensor counts comes from a few known formats that are measured first.

    The names that it prints can be used wherever a format's name can. With --average-bits, the last of --effects
    decides.

    Examples: formats search --model resnet18 · formats search -m torchvision:resnet50 --data imagefolder:photos
    --weights mine.pth · formats search -m mine.py:net --bits 6 --shape unimodal --max-runs 4 -o found.csv
    """
    from predictor.device import on_device
    from reports import results, tables
    from search.knapsack import Constraints
    from search.tailored import search as search_formats
    from search.tailored import search_layers
    from workloads import load

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    wanted = _split(effects)
    constraints = Constraints(max_binades, shape, max_precisions, max_runs, _numbers("--headroom", headroom))
    workload = on_device(load(model, data, weights), device)
    if average_bits is not None:
        with _measuring(workers, cluster, store, device) as measuring:
            table, settings = search_layers(
                workload,
                average_bits,
                widths=_numbers("--widths", widths),
                effect=wanted[-1] if wanted else "",
                constraints=constraints,
                passes=noise_passes,
                batch_size=batch_size,
                exact=exact or (),
                two_terms=two_terms,
                **measuring,
            )
        average = (table["bits"] * table["elements"]).sum() / table["elements"].sum()
        _print(
            tables.layers(
                table,
                f"{model}: a format for each layer by {settings['effect']}, {average:.3f} bits on average; predicted, not measured",
            )
        )
    else:
        with _measuring(workers, cluster, store, device) as measuring:
            found = search_formats(
                workload,
                bits,
                effects=wanted,
                constraints=constraints,
                best=best,
                passes=noise_passes,
                minibatches=minibatches,
                batch_size=batch_size,
                exact=exact or (),
                two_terms=two_terms,
                with_cost=pareto,
                **measuring,
            )
        table, settings = found.table, found.settings
        title = f"{model}: {bits}-bit formats by the angle of {found.by} in degrees, on {settings['minibatches']} mini-batches"
        _print(tables.search(table, settings["reference"], title))
        _print(
            "less: the paired difference over mini-batches, mean ± 95% half-width; equal ranks are ties; headroom, scores and intervals: --output"
        )
        if not settings["held_out"]:
            _print("there were too few mini-batches: the formats were made for some of those that they are measured on")
        if not found.complete:
            _print(f"ended early by an interrupt: {settings['gradients']} measurements were made and are kept")
    if output is not None:
        results.write(table, output, settings)
        _print(f"wrote {output} and {results.sidecar_of(output)}")
    if average_bits is None and not found.complete:
        raise typer.Exit(INTERRUPTED)


@app.command()
def fit(
    file: Annotated[Path, typer.Argument(help="an .npz, .npy or .safetensors file; each array in it is a tensor")],
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "-f",
            help="comma-separated names, or files (.py, .toml) that define formats, instead of the catalogue of --bits",
        ),
    ] = None,
    bits: WidthOption = 8,
    max_binades: MaxBinadesOption = None,
    shape: ShapeOption = "any",
    max_precisions: MaxPrecisionsOption = None,
    max_runs: MaxRunsOption = None,
    headroom: HeadroomOption = "0,1",
    top: Annotated[int, typer.Option(min=1, help="rows of the table to print")] = 20,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Rank formats by the noise that they add to dumped tensors, beside the best profile for these tensors. No model is
    needed.

    Noise is the noise-to-signal ratio |Q(t) - t|^2 / |t|^2; formats are ordered by its mean over tensors.

    Examples: formats fit tensors.npz · formats fit gradients.safetensors --bits 6 --top 5
    """
    from reports import results, tables
    from search.fitting import fit as fit_formats
    from search.fitting import read_tensors
    from search.knapsack import Constraints

    if output is not None:
        results.check_output(output, results.ENDINGS, force)
    constraints = Constraints(max_binades, shape, max_precisions, max_runs, _numbers("--headroom", headroom))
    names = None if formats is None else _split(formats)
    found = fit_formats(read_tensors(file), names, bits, constraints)
    best = found.table[found.table["role"] == "synthesized"].iloc[0]
    _print(tables.fit(found.table.head(top), f"{file}: {len(found.table)} formats on {found.tensors} tensors"))
    _print(
        f"the best {bits}-bit profile for these tensors: {best['name']} (mean NSR {best['nsr_mean']:.4g}, rank {best['rank']})"
    )
    if found.zero:
        _print(f"left out, nothing but zeros: {', '.join(found.zero)}")
    if found.ignored:
        _print(f"NaN and infinite elements, read as zero: {found.ignored}")
    if output is not None:
        settings = {
            "file": str(file),
            "formats": names,
            "bits": bits,
            "tensors": found.tensors,
            "zero": found.zero,
            "ignored": found.ignored,
        }
        results.write(found.table, output, settings)
        _print(f"wrote {output} and {results.sidecar_of(output)}")


@app.command()
def plot(
    given: Annotated[
        list[Path] | None,
        typer.Argument(
            help="a file that `formats rank`, search, attribute or measure wrote, dumped tensors (.npz, .npy, .safetensors), or folders of `formats train`",
            metavar="[RESULT]...",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="of a ranking: angles (E against A, the default), top (the first, intervals, ties), pareto (with gates); of angles by layer: layers; "
            "of a search: synthesized; of a validation's runs.csv: validation; of folders: flips; of tensors: histograms; of formats alone: profiles"
        ),
    ] = None,
    profiles: Annotated[
        str | None,
        typer.Option(
            help="comma-separated formats: significant bits by binade, over the histograms of RESULT where that is tensors"
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="the effect of top, pareto and synthesized")] = "AE",
    top: Annotated[int, typer.Option(help="formats that top draws")] = 20,
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

    Examples: formats plot ranking.csv · formats plot ranking.csv --kind top -o top.pdf · formats plot why.csv --kind
    layers · formats plot --profiles FP134,BM43,E4M3 · formats plot tensors.npz --profiles FP134,INT8 · formats plot
    runs/log4-* -o flips.pdf
    """
    from reports import plots, results

    files, names = given or [], _split(profiles or "")
    meant = plots.kind_of(files, kind, names)
    target = output if output is not None else plots.default_target(files, meant)
    results.check_output(target, plots.ENDINGS, force)
    plots.save(plots.draw(files, meant, names, by, top), target)
    _print(f"wrote {target}")


@app.command()
def report(
    ranking: Annotated[Path, typer.Argument(help="a ranking that `formats rank --output` wrote")],
    html: Annotated[
        Path | None, typer.Option("--html", help="where the page goes; default: beside the ranking")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Make one page of a ranking that needs no network: a table and plots that filter each other, every format's
    profile and values, how it was made.

    Examples: formats report ranking.csv · formats report ranking.parquet --html report.html --force
    """
    from reports import results
    from reports.page import html as page

    target = html if html is not None else ranking.with_suffix(".html")
    results.check_output(target, page.ENDINGS, force)
    page.write(ranking, target)
    _print(f"wrote {target}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="a ranking that `formats rank --output` wrote")],
    second: Annotated[
        Path, typer.Argument(help="another one, such as of a later checkpoint, another seed or other data")
    ],
    effect: Annotated[str, typer.Option(help="the effect whose angle is compared: E, A or AE")] = "AE",
    top: Annotated[int, typer.Option(min=1, help="rows of each table to print")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say how stable a ranking is: rank correlations of two, with 95% bootstrap intervals, changed places, and what the
    first few have in common.

    Examples: formats compare epoch10.csv epoch100.csv · formats compare seed0.csv seed1.csv --effect E --json
    """
    import json

    from reports import compare as comparing
    from reports.validation import correlations

    found = comparing.compare(first, second, effect)
    if as_json:
        typer.echo(json.dumps(comparing.facts(found)))
        return
    for part in comparing.tables(found, top, f"{first}, then {second}: angle of {effect}"):
        _print(part)
    _print(f"{found.agreement.formats} formats: {correlations(found.agreement)}")
    _print("in both, of the first k: " + ", ".join(f"{count} of {k}" for k, count in found.overlap.items()))
    if found.left_out:
        _print(f"left out, not the same format in both or without an angle: {', '.join(found.left_out)}")


@bench.command("emulator")
def bench_emulator(
    elements: Annotated[int, typer.Option(help="float32 numbers in the array")] = 1 << 24,
    repeats: Annotated[int, typer.Option(help="counted runs; the median is printed")] = 7,
    format: Annotated[str, typer.Option(help="the format of this project to time")] = "FP134",
) -> None:
    """Time rounding against a copy, ml_dtypes, qtorch and torch's float8, with one and two threads, in one run.

    Examples: formats bench emulator · formats bench emulator --elements 1024 --repeats 1001
    """
    from formats.conformance.speed import run as run_bench
    from reports.tables import plain

    headers = [
        ("what", "left"),
        ("threads", "right"),
        ("ns an element", "right"),
        ("x copy", "right"),
        ("GB/s", "right"),
    ]
    _print(
        plain(
            f"rounding {elements} float32 to 8 bits, median of {repeats}", headers, run_bench(elements, repeats, format)
        )
    )


@bench.command("gradient")
def bench_gradient(
    model: ModelOption = "resnet18",
    data: DataOption = None,
    weights: WeightsOption = None,
    format: Annotated[str, typer.Option(help="the format that quantizes data flow")] = "FP134",
    batch_size: Annotated[int, typer.Option(help="examples a mini-batch")] = 128,
    repeats: Annotated[int, typer.Option(help="counted runs; the median is printed")] = 5,
) -> None:
    """Time a quantized gradient (AE) against the full-precision one, in one run.

    Examples: formats bench gradient · formats bench gradient -m torchvision:resnet50 --data imagefolder:photos
    --batch-size 16
    """
    from predictor.bench import run as run_bench
    from reports.tables import plain
    from workloads import load

    _print(
        plain(
            f"{model}, batch {batch_size}, median of {repeats}",
            [("what", "left"), ("seconds", "right"), ("x full precision", "right")],
            run_bench(load(model, data, weights), format, batch_size, repeats),
        )
    )


@cache.command("info")
def cache_info(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Say where measurements are kept, how many there are, and on what they were made.

    Examples: formats cache info · FORMATS_CACHE=/scratch/formats formats cache info --json
    """
    import json
    from dataclasses import asdict

    from predictor.measuring.store import Store
    from reports.tables import plain

    with Store.open() as store:
        held = store.info()
    if as_json:
        typer.echo(json.dumps(asdict(held)))
        return
    _print(
        f"{held.path}: {held.measurements} measurements of {held.formats} formats on {held.minibatches} mini-batches; "
        f"{held.bytes / 1e6:.1f} MB; {held.set_aside} older or damaged files set aside"
    )
    if held.contexts:
        headers = [
            ("weights", "left"),
            ("torch", "left"),
            ("device", "left"),
            ("threads", "right"),
            ("measurements", "right"),
        ]
        rows = [
            [c["weights"][:12], c["torch"], c["device"], str(c["threads"]), str(c["measurements"])]
            for c in held.contexts
        ]
        _print(plain("made on", headers, rows))


@cache.command("clear")
def cache_clear(
    yes: Annotated[bool, typer.Option("--yes", help="do it")] = False,
) -> None:
    """Forget all measurements, and delete stores that were set aside.

    Example: formats cache clear --yes
    """
    from predictor.measuring.store import Store, default_path

    if not yes:
        raise ValueError(f"all measurements in {default_path()} would be forgotten; say --yes")
    with Store.open() as store:
        _print(f"forgot {store.clear()} measurements in {store.path}")


def run() -> None:
    """The console script: errors in what the user gave are one line and exit code 2."""
    code: int | None
    try:
        import numeric_formats  # noqa: F401  (first, and here: it refuses systems that none of this runs on)

        code = app(standalone_mode=False)
    except (
        typer.TyperException
    ) as error:  # an option or argument that cannot be read; without a message where help was printed instead
        code = BAD_INPUT
        if message := " ".join(error.format_message().split()):
            context = getattr(error, "ctx", None)
            typer.echo(
                f"error: {message.rstrip('.')}" + (f"; see {context.command_path} --help" if context else ""), err=True
            )
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            message = f"{error.filename}: {error.strerror}"
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        code = BAD_INPUT
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code or 0)


if __name__ == "__main__":
    run()
