"""From the arguments of a training to its run: `train`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from formats import Format, Rounding
from formats.lookup import FULL_PRECISION, format_or_none
from formats.recipes.reading import recipe as recipe_of
from formats.recipes.value import Recipe
from numeric_formats.checks import one_of
from numeric_formats.files import hold
from numeric_formats.progress import Report, quiet
from predictor.measuring.store import Store
from predictor.scheme import PAPER, Preset, ScaleRule, Scheme, scheme_of
from training.log import LAYERS
from training.loop import Run
from training.methods.method import Method, settings_of
from training.optimizers import Optimizer, Schedule
from training.recipe_steps import TrainedRecipe, check_alone
from training.reproducible import fingerprint
from training.result import Result
from training.scheme import TensorFormats
from training.settings import Start, TrainingSettings
from workloads.workload import Workload


def train(
    workload: Workload,
    *,
    activation: str | Format | None = None,
    error: str | Format | None = None,
    weight: str | Format | None = None,
    gradient: str | Format | None = None,
    master: str | Format | None = None,
    weight_rounding: Rounding | str = Rounding.HYSTERESIS,
    master_rounding: Rounding | str = Rounding.STOCHASTIC,
    scheme: Scheme | str = Preset.PAPER,
    scale: ScaleRule | str | None = None,
    two_terms: bool = True,
    method: Method | None = None,
    recipe: str | Recipe | None = None,
    head: bool = False,
    exact: Sequence[str] = (),
    keep: Sequence[str] = (),
    epochs: int,
    batch_size: int | None = None,
    optimizer: Optimizer | str = Optimizer.SGD,
    rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    schedule: Schedule | str = Schedule.COSINE,
    warmup: int = 0,
    start: Start | str = Start.SCRATCH,
    seed: int = 0,
    loss_bound: float = 1000.0,
    checkpoint_every: int = 0,
    angle_every: int = 0,
    metric_every: int = 1,
    hysteresis_epochs: int | None = None,
    dampening: float | str | None = None,
    freezing: float | str | None = None,
    output: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    tensorboard: bool = False,
    store: Store | None = None,
    progress: Report = quiet,
) -> Result:
    """Train a copy of a workload's network, where it is, with everything rounded, by default the scheme of the paper,
    or with the operands of its products rounded as a recipe says.

    Formats are given by name or as objects; "float32" leaves a tensor as it is. By default they are FP134, and FP169
    for the master; with a method or a recipe float32.

    Mini-batches are those of `workload.train`, else `workload.batches`, in an order drawn anew for every epoch. Random
    numbers of the workload's own code have to come from torch's generator to be the same after a resume.

    Args:
        workload: Network, loss, mini-batches, and what it is tested with.
        activation: Format of activations.
        error: Of errors, the gradients of activations.
        weight: Of weights; by default those of convolutions get one scale an output channel, others one a tensor.
        gradient: Of weight gradients.
        master: Of master weights and of their momentum.
        weight_rounding: `nearest`, `stochastic` or `hysteresis`.
        master_rounding: `nearest` or `stochastic`.
        scheme: By which tensors are rounded: `paper`, `current`, `authors`, one of these with parts that differ
            (`paper,branches=yes`), or a `predictor.scheme.Scheme`, which says what they are.
        scale: Instead of the scheme's: `delayed` or `current`.
        two_terms: Round network inputs and last errors in two terms.
        method: A published training method (`training.methods`), which quantizes layers in its own way, beside the
            rounding that the formats ask for.
        recipe: A recipe, or its name as `formats.recipe` takes it, by which products are computed; then no format,
            rounding, scheme or method is given, and weights, their gradients and the optimizer are float32.
        head: Whether the recipe changes the network's last product too.
        exact: Layers that the recipe leaves in full precision.
        keep: Layers, or products, that are computed in bfloat16 beside the recipe, as `measure_recipes` names them.
        epochs: Passes over the mini-batches.
        batch_size: None for the workload's.
        optimizer: `sgd` or `adamw`.
        rate: The largest learning rate.
        momentum: Of SGD, or the first of AdamW's.
        weight_decay: Weight decay.
        schedule: `constant`, `cosine` or `steps` (a tenth after 1/2 and 3/4 of the run).
        warmup: Steps in which the learning rate rises.
        start: `scratch` for new random weights, or `pretrained` for those that the workload comes with.
        seed: Decides new weights, the order of mini-batches, random numbers of the network and of stochastic rounding.
        loss_bound: A loss above it ends the run as diverged.
        checkpoint_every: Steps between checkpoints within an epoch; 0 for the ends of epochs alone.
        angle_every: Steps between samples of the angle to the full-precision gradient; 0 for none.
        metric_every: Epochs between metrics; the last epoch has one.
        hysteresis_epochs: After so many epochs weights are rounded to nearest instead; None for never.
        dampening: Strength of the pull of master weights toward their rounded values (such as 0.01), or "START:END"
            for a cosine from one to the other; None for none.
        freezing: How often a weight may flip back, as a running average (such as 0.02), before it is fixed, or
            "START:END"; None for never. Both are those of Nagel et al. 2022 (docs/definitions/training.md section 3).
        output: A folder for checkpoint, settings, result, steps.parquet, epochs.csv and the Parquet files of layers/.
        resume: Go on from its checkpoint, if there is one; the result then has the same bits as that of an
            uninterrupted run at the same number of threads.
        force: Replace an earlier run.
        store: Where it is found and kept that the flow was held against torch (`predictor.measuring.self_check`).
        tensorboard: Write losses, angles, flips and metrics into its folder tensorboard/ too, which needs that package.
        progress: Called after every step.

    Returns:
        The trained network and what is known of the run.

    Raises:
        ValueError: For names and numbers that mean nothing, for a checkpoint that is damaged or of another run, where
            the flow that rounds is not what torch computes, where a method or a recipe finds nothing to change, and for
            what contradicts a recipe.
        FileExistsError: Where the folder holds a run and neither resume nor force is given, or another process is
            writing to it.
        OSError: Where the folder cannot be written; the last checkpoint then stands.

    Source:
        docs/definitions/training.md, after Lee, Park, Jeon, ICLR 2022, sections 3 and 4.
    """
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        rate=rate,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        start=start,
        seed=seed,
        loss_bound=loss_bound,
        checkpoint_every=checkpoint_every,
        angle_every=angle_every,
        metric_every=metric_every,
        hysteresis_epochs=hysteresis_epochs,
        dampening=dampening,
        freezing=freezing,
    )
    trained = None
    if recipe is not None:
        trained = TrainedRecipe(recipe_of(recipe), head, tuple(exact), tuple(keep))
        check_alone(
            trained.recipe,
            {
                "activation": activation is not None,
                "error": error is not None,
                "weight": weight is not None,
                "gradient": gradient is not None,
                "master": master is not None,
                "weight rounding": weight_rounding != Rounding.HYSTERESIS,
                "hysteresis epochs": hysteresis_epochs is not None,
                "dampening": dampening is not None,
                "freezing": freezing is not None,
                "master rounding": master_rounding != Rounding.STOCHASTIC,
                "scheme": scheme_of(scheme) != PAPER,
                "scale": scale is not None,
                "one term": not two_terms,
                "method": method is not None,
            },
        )
    elif head or exact or keep:
        raise ValueError("head, exact and keep say where a recipe holds: give them with a recipe")
    plain = method is not None or trained is not None
    usual, usual_master = (FULL_PRECISION, FULL_PRECISION) if plain else ("FP134", "FP169")
    tensor_formats = TensorFormats(
        activation=format_or_none(usual if activation is None else activation),
        error=format_or_none(usual if error is None else error),
        weight=format_or_none(usual if weight is None else weight),
        gradient=format_or_none(usual if gradient is None else gradient),
        master=format_or_none(usual_master if master is None else master),
        weight_rounding=one_of("weight rounding", Rounding, weight_rounding),
        master_rounding=one_of("master rounding", Rounding, master_rounding),
        scheme=scheme_of(scheme, scale=scale, two_terms=two_terms),
    )
    if hysteresis_epochs is not None and tensor_formats.weight_rounding is not Rounding.HYSTERESIS:
        raise ValueError(
            f"hysteresis epochs {hysteresis_epochs}: weight rounding is {tensor_formats.weight_rounding.value}; give "
            "both only with hysteresis"
        )
    if tensor_formats.weight is None and (dampening is not None or freezing is not None):
        raise ValueError("dampening and freezing are for weights in a format: give --weight, or leave them out")
    workload.require_numbers()
    folder = None if output is None else Path(output)
    source = workload.batches if workload.train is None else workload.train
    batches = replace(workload, batches=source).minibatches(settings.batch_size)
    made_from = fingerprint(workload, batches, folder is not None)
    recorded = {**asdict(settings), **tensor_formats.settings, **settings_of(method), **made_from}
    recorded |= {"recipe": None} if trained is None else trained.settings
    if tensorboard and folder is None:
        raise ValueError("tensorboard needs an output, the folder to write to")
    run = Run(
        *(workload, batches, tensor_formats, settings, method, trained, recorded),
        *(folder, resume, force, tensorboard, store, progress),
    )
    with nullcontext() if folder is None else hold(folder, LAYERS):
        return run.result()
