"""The command quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.options import WEIGHTS_HELP, BatchSizeOption, DataOption, ForceRunOption, JsonOption, ModelOption
from commands.printing import say, say_json
from commands.progress import interruptible, progress_shown, resuming


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
    force: ForceRunOption = False,
    export: Annotated[
        Path | None, typer.Option(help="write codes and scales: a .safetensors, or an .onnx with INT8 or INT4")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Quantize a trained network without training it, and see what each step and each layer costs.

    Batch normalization is folded, neighbouring layers are equalized, high biases absorbed, ranges set, weights rounded
    by AdaRound, ranges of activations set. A run with --output that was ended at any moment goes on with --resume, to
    the same bits at the same number of threads.

    Examples: formats quantize -m resnet20 --weights INT4 --activations INT8 -o runs/w4a8 · formats quantize -m resnet20
    -W E2M1 -A FP134 --no-adaround --bias-correction analytic · formats quantize -m mine.py:net --per-channel --export
    net.onnx · formats quantize -m resnet20 -o runs/w4a8 --resume
    """
    from reports.tables import training as tables
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
    with interruptible(resuming(output, "what was finished")), progress_shown() as show:
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
        say_json(result.plain(), indent=1)
    else:
        say(*tables.quantization(result, f"{model}: {weights} weights, {activations} activations"))
    found = None if export is None else export_to(export, workload, result.network, result.codes, batch_size)
    if not as_json:
        if output is not None:
            say(f"wrote {output}")
        if export is not None:
            say(f"wrote {export}; {found}")
