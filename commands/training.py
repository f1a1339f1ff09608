"""Commands that train: train, validate, methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.early import check_measured, check_results
from commands.options import (
    BatchSizeOption,
    ComparedOption,
    DampeningOption,
    DataOption,
    DeviceOption,
    EpochsOption,
    ExactOption,
    ForceRunOption,
    FreezingOption,
    HeadOption,
    HysteresisEpochsOption,
    KeptOption,
    ModelOption,
    OptimizerOption,
    RankingArgument,
    RateOption,
    RecipeOption,
    SchemeOption,
    TwoTermsOption,
    WeightRoundingOption,
    WeightsOption,
    split,
)
from commands.printing import say, say_json
from commands.progress import interruptible, progress_shown, resuming
from commands.unfinished import tell_of_unfinished

DIVERGED = 1
"""The exit code of a training that did not go well."""


def train(
    model: ModelOption,
    epochs: EpochsOption,
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
    weight_rounding: WeightRoundingOption = "hysteresis",
    hysteresis_epochs: HysteresisEpochsOption = None,
    dampening: DampeningOption = None,
    freezing: FreezingOption = None,
    master_rounding: Annotated[str, typer.Option(help="nearest or stochastic")] = "stochastic",
    scale: Annotated[
        str | None,
        typer.Option(help="of activations, errors and gradients, instead of the scheme's: delayed or current"),
    ] = None,
    scheme: SchemeOption = "paper",
    two_terms: TwoTermsOption = True,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="a published method (`formats methods`); twice to combine two", metavar="NAME"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="an option of the method (may be repeated)", metavar="KEY=VALUE"),
    ] = None,
    recipe: RecipeOption = None,
    head: HeadOption = False,
    exact: ExactOption = None,
    keep: KeptOption = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help="scratch, pretrained, or the folder of a formats quantize --output, with --method lsq or lsqplus",
        ),
    ] = "scratch",
    optimizer: OptimizerOption = None,
    rate: RateOption = None,
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
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="hold loss and metric against float32 trained alike: a folder where that is, or into which it is "
            "trained first; several runs may share it"
        ),
    ] = None,
    device: DeviceOption = "cpu",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for checkpoint, metrics and settings")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the checkpoint in --output, if there is one")
    ] = False,
    force: ForceRunOption = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="write into --output for TensorBoard too")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            help="write what --method trained as codes and scales: a .safetensors, or an .onnx with INT8 or INT4"
        ),
    ] = None,
) -> None:
    """Train a network with everything rounded: activations, errors, weights, gradients, master weights and momentum; or
    with --recipe the operands of its products alone, as `formats recipes` measures them.

    --baseline holds each epoch against float32 from the same seed. A run that was ended at any moment goes on with
    --resume, to the same bits at the same number of threads. Exit code 1 if it diverged.

    Examples: formats train -m resnet20 --epochs 5 -o runs/fp134 · formats train -m resnet20 --epochs 5 -W LOG4
    --baseline runs/float32 -o runs/log4 --resume · formats train -m mine.py:net --epochs 1 --from pretrained -A
    E4M3/tensor -E E5M2/tensor --rate 0.01 · formats train -m resnet20 --epochs 5 --method ui8 --option alpha=10
    --option format=FP134 · formats train -m resnet20 --epochs 3 --method lsq --from pretrained --rate 0.01 --export
    lsq.onnx · formats train -m resnet20 --epochs 3 --method lsq --from runs/w4a8 --option activation_bits=8 --rate 0.01
    · formats train -m resnet20 --epochs 5 -W INT4 --scheme authors · formats train -m resnet20 --epochs 5 -W INT4
    --weight-rounding nearest --dampening 0:0.01 --freezing 0.04:0.01 · formats train -m transformer --epochs 3
    --recipe nvfp4 --rate 3e-3 --warmup 40
    """
    from predictor.scheme import scheme_of

    rules = scheme_of(scheme, scale=scale)
    check_measured([model], [activation, error, gradient, weight, master], scheme=rules)
    from formats.lookup import FULL_PRECISION
    from predictor.device import on_device
    from predictor.measuring.store import Store
    from reports.tables import training as tables
    from training import train as train_network
    from training.checkpoint import NAME
    from training.export.codes import check_export, export_to
    from training.log import saturation
    from training.methods import method_from
    from training.optimizers import usual
    from training.oscillation import oscillation_seen
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
        say(f"{start} holds {ranges.formats}; the bits of training are the method's own options (formats methods)")
        start = "pretrained"
    workload = on_device(workload, device)
    optimizer, rate = usual(workload.model, optimizer, rate)
    alike: dict[str, Any] = {
        "epochs": epochs,
        "seed": seed,
        "start": start,
        "optimizer": optimizer,
        "rate": rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "warmup": warmup,
        "batch_size": batch_size,
        "loss_bound": loss_bound,
    }
    reference = None
    if baseline is not None:
        if output is not None and output.resolve() == baseline.resolve():
            raise ValueError(f"--baseline and --output are both {output}; they are two runs")
        with interruptible(resuming(baseline, "the last checkpoint")), Store.open() as store, progress_shown() as show:
            reference = train_network(
                workload,
                activation=FULL_PRECISION,
                error=FULL_PRECISION,
                weight=FULL_PRECISION,
                gradient=FULL_PRECISION,
                master=FULL_PRECISION,
                **alike,
                output=baseline,
                resume=True,
                store=store,
                progress=show,
            )
    with interruptible(resuming(output, "the last checkpoint")), Store.open() as store, progress_shown() as show:
        result = train_network(
            workload,
            activation=activation,
            error=error,
            weight=weight,
            gradient=gradient,
            master=master,
            weight_rounding=weight_rounding,
            hysteresis_epochs=hysteresis_epochs,
            dampening=dampening,
            freezing=freezing,
            master_rounding=master_rounding,
            scale=scale,
            scheme=scheme,
            two_terms=two_terms,
            method=method_from(method, option or (), ranges) if method else None,
            recipe=recipe,
            head=head,
            exact=exact or (),
            keep=split(keep or ""),
            **alike,
            output=output,
            resume=resume,
            force=force,
            tensorboard=tensorboard,
            store=store,
            progress=show,
            angle_every=angle_every,
            checkpoint_every=checkpoint_every,
        )
    seen = (saturation(result.steps), oscillation_seen(result.steps, weight_rounding, hysteresis_epochs))
    say(*tables.epochs(model, result, reference), *result.coverage, *(line for line in seen if line is not None))
    if output is not None:
        say(f"wrote {output}")
    if result.reason:
        kept = output is not None and (output / NAME).exists()
        say(f"diverged: {result.reason}" + (f"; the last checkpoint is in {output}" if kept else ""))
        raise typer.Exit(DIVERGED)
    if export is not None:
        assert result.method_state is not None
        found = export_to(export, workload, result.model, result.method_state, batch_size)
        say(f"wrote {export}; {found}")


def validate(
    ranking: RankingArgument,
    model: ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="folder of the trainings and of what comes out of them")
    ],
    data: DataOption = None,
    weights: WeightsOption = None,
    count: Annotated[int, typer.Option(help="formats to take from all over the ranking")] = 24,
    formats: Annotated[str, typer.Option("--formats", "-f", help="comma-separated names to train beside them")] = "",
    seeds: Annotated[int, typer.Option(help="trainings of each format")] = 2,
    points: Annotated[
        str | None,
        typer.Option(help="dataflow or operands; default: where the ranking has rounded, and another is refused"),
    ] = None,
    effect: ComparedOption = None,
    epochs: EpochsOption = 5,
    start: Annotated[str, typer.Option("--from", help="scratch or pretrained")] = "scratch",
    optimizer: OptimizerOption = None,
    rate: RateOption = None,
    batch_size: BatchSizeOption = None,
    weight: Annotated[
        str, typer.Option("--weight", "-W", help="format of weights; same: the one under test")
    ] = "float32",
    gradient: Annotated[
        str, typer.Option("--gradient", "-G", help="format of weight gradients; same: the one under test")
    ] = "float32",
    master: Annotated[str, typer.Option(help="format of master weights and momentum")] = "float32",
    weight_rounding: WeightRoundingOption = "hysteresis",
    hysteresis_epochs: HysteresisEpochsOption = None,
    scheme: SchemeOption = "paper",
    any_scheme: Annotated[
        bool, typer.Option("--any-scheme", help="train by another scheme than the ranking measured by")
    ] = False,
) -> None:
    """Train formats from all over a ranking, and see whether the angle has predicted how well each goes.

    Every format rounds activations and errors, which is what the angle is about, in trainings from the same seeds;
    --weight, --gradient and --master round the rest too. Of a ranking at operands, every format is trained as the
    recipe that it was measured as. The choice is written down before the first. A
    finished training is not done again and an ended one goes on: give the same command again, or in a second terminal
    to share the work.

    Examples: formats rank -m resnet20 -o ranking.csv && formats validate ranking.csv -m resnet20 -o runs/validate
    · formats validate ranking.csv -m resnet20 -o runs/few --count 6 --epochs 1 --formats FP134,INT8
    """
    check_results(ranking)
    from dataclasses import asdict

    from numeric_formats.checks import one_of
    from predictor.columns import BITS, NAME, angle_column
    from predictor.effects import Points
    from predictor.measuring.store import Store
    from predictor.scheme import Scheme
    from reports import results
    from reports.plots import style, training
    from reports.tables import training as tables
    from training.optimizers import usual
    from training.validation import validate as validate_ranking
    from workloads import load

    table = results.read(ranking, (NAME, BITS))
    of_ranking = results.sidecar(ranking).get("settings", {})
    at = results.points_of(of_ranking)
    if points is not None and one_of("points", Points, points) is not at:
        raise ValueError(f"{ranking} is of points {at}, and so are its trainings: leave --points {points} out")
    effect = effect or results.ordering_effect(ranking, table)
    results.read(ranking, (angle_column(effect),))
    tell_of_unfinished(ranking)
    workload = load(model, data, weights)
    optimizer, rate = usual(workload.model, optimizer, rate)
    with interruptible("the same command goes on"), Store.open() as store, progress_shown() as show:
        found = validate_ranking(
            workload,
            table,
            output=output,
            count=count,
            formats=split(formats),
            seeds=seeds,
            effect=effect,
            weight=weight,
            gradient=gradient,
            master=master,
            epochs=epochs,
            store=store,
            progress=show,
            start=start,
            optimizer=optimizer,
            rate=rate,
            batch_size=batch_size,
            weight_rounding=weight_rounding,
            hysteresis_epochs=hysteresis_epochs,
            scheme=scheme,
            ranked=None if any_scheme else Scheme.recorded(of_ranking),
            points=at,
            exact=of_ranking.get("exact", ()) if at is Points.OPERANDS else (),
        )
    agreement = found.agreement
    title = f"{model}: {agreement.formats} formats, {seeds} trainings of {epochs} epochs each"
    say(*tables.validation(found, effect, title), *found.coverage)
    results.write(found.runs, output / "runs.csv", found.settings | {"agreement": asdict(agreement)})
    style.save(
        training.loss_against_angle(found.runs, f"{model}: loss against angle;", effect),
        output / "loss_against_angle.png",
    )
    say(f"wrote {output / 'runs.csv'} and {output / 'loss_against_angle.png'}")


def methods(
    name: Annotated[str | None, typer.Argument(help="one method, of which all is told")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with all options")] = False,
) -> None:
    """List the published training methods: what each quantizes, of which layers, and its source; or all of one, with
    its options.

    Examples: formats methods · formats methods lsq · formats methods --json
    """
    from training.methods import described

    rows = described()
    if name is not None:
        rows = [row for row in rows if row["name"] == name]
        if not rows:
            raise ValueError(f"method {name!r}: allowed are {', '.join(row['name'] for row in described())}")
    if as_json:
        say_json(rows)
    else:
        from reports.tables import training as tables

        say(*(tables.methods(rows) if name is None else tables.method(rows[0])))
