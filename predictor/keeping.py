"""Which layers to keep in high precision: greedy, by what each causes alone, measured step by step."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from formats.pairs import Candidate, candidate, formats_of
from numeric_formats.checks import at_least, number
from numeric_formats.progress import Report, quiet
from predictor.attribution import in_layers
from predictor.columns import ANGLE, HIGH, LAYER, LOW, MODULE, SHARE, N
from predictor.effects import Effect, check_effects
from predictor.flow.layers import module_of
from predictor.gradient.angle import FAILED, degrees, layer_sums
from predictor.gradient.gradients import Gradients, layer_of
from predictor.gradient.quantizers import activation_quantizer, error_quantizer
from predictor.measuring.executors import Executor, InProcess
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import check_minibatches
from predictor.scheme import Preset, Scheme, scheme_of
from predictor.statistics import angle_interval, interval
from workloads.workload import Workload

STEP = "step"
STAYS = "stays"
"""Whether the layer that was tried stays in high precision."""
GAIN, GAIN_LOW, GAIN_HIGH = "gain", "gain_low", "gain_high"
COLUMNS = (STEP, LAYER, MODULE, STAYS, SHARE, ANGLE, LOW, HIGH, GAIN, GAIN_LOW, GAIN_HIGH, N)
CHOSEN = "chosen"
"""Where a table of `keep` says which layers are to be kept."""
STAGE = "keep"
DEFAULT_MINIBATCHES = 4
ALONE_ON = 2
"""Mini-batches that say what each layer causes alone."""
ALLOWED = (Effect.E, Effect.A, Effect.AE, Effect.WAE)


def matching(model: nn.Module, given: Iterable[str]) -> list[str]:
    """Names of layers, with patterns (* ? [...]) as the names of all modules that they match.

    Raises:
        ValueError: A pattern that no module matches.
    """
    known, found = [name for name, _ in model.named_modules() if name], dict[str, None]()
    for pattern in given:
        if any(sign in pattern for sign in "*?["):
            matched = fnmatch.filter(known, pattern)
            if not matched:
                raise ValueError(f"no layer matches {pattern!r}; there are {', '.join(known[:6])}, ...")
            found |= dict.fromkeys(matched)
        else:
            found[pattern] = None
    return list(found)


def keep(
    workload: Workload,
    format: str | Candidate,
    *,
    layers: int | None = None,
    target: float | None = None,
    effect: str = Effect.AE,
    minibatches: int | None = None,
    batch_size: int | None = None,
    exact: Sequence[str] = (),
    scheme: Scheme | str = Preset.PAPER,
    two_terms: bool = True,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Report = quiet,
) -> pd.DataFrame:
    """Which layers to keep in full precision, so that the rest can be in a format.

    Layers are tried in the order of what each causes alone. With those that were kept before, the angle of the whole
    network is measured with one more in full precision, which stays so if that made the angle smaller. Layers are
    modules that compute something themselves and hold no other such module, as `--exact` names them.

    Args:
        workload: what is measured.
        format: of all that is not kept; a format, a pair or a name.
        layers: so many are kept at most; None for as many as `target` takes.
        target: degrees at which it ends; None for no end but `layers`.
        effect: whose angle: E, A, AE or WAE.
        minibatches: how many; by default 4, or all where there are fewer.
        batch_size: examples of a mini-batch, by default the workload's.
        exact: layers that are in full precision from the beginning.
        scheme: by which activations and errors are rounded.
        two_terms: whether inputs and last errors are rounded in two terms.
        store: where exact measurements are found and kept; by default none is.
        executor: what measures, by default this process.
        progress: hears of every layer and step.

    Returns:
        A row for nothing kept, then one for each layer that was tried: step, layer, module (its class), stays, share
        (tan^2 of the layer's angle alone over the sum of all layers'), angle with low and high (with this layer and
        those that were kept before in full precision; 95% t-interval), gain with gain_low and gain_high (by how many
        degrees that is less than without this layer, mini-batch by mini-batch; 95% t-interval), n. `attrs["chosen"]`
        names the layers to keep.

    Raises:
        ValueError: neither layers nor target, or an argument out of range.
    """
    if layers is None and target is None:
        raise ValueError("say how many layers may be kept (layers), or at how many degrees to stop (target)")
    if layers is not None:
        at_least(f"{layers} layers", layers)
    if target is not None:
        number("target", target, 0, FAILED)
    [wanted] = check_effects([effect])
    if wanted not in ALLOWED:
        raise ValueError(f"effect {wanted}: allowed are {', '.join(ALLOWED)}")
    chosen, rules = candidate(format), scheme_of(scheme, two_terms=two_terms)
    batches = check_minibatches(workload, minibatches, batch_size, DEFAULT_MINIBATCHES)
    measuring = Measuring(workload, tuple(exact), rules, store, executor or InProcess(), progress)
    power: dict[str, float] = {}
    for batch in batches[:ALONE_ON]:
        with measuring.opened(batch) as gradients:
            for layer, angle in _alone(gradients, chosen, wanted, measuring):
                power[layer] = power.get(layer, 0.0) + math.tan(math.radians(min(angle, FAILED))) ** 2
    whole = sum(power.values()) or 1.0
    order = sorted(power, key=lambda layer: -power[layer])

    def measured(kept: Sequence[str]) -> NDArray[np.float64]:
        of = replace(measuring, exact=(*exact, *kept), progress=quiet)
        found = sorted(of.measured([chosen], batches, (wanted,)), key=lambda entry: entry.minibatch)
        return np.array([entry.angle() for entry in found])

    kept: list[str] = []
    best = measured(kept)
    rows = [(0, "", "", False, math.nan, *angle_interval(best), math.nan, math.nan, math.nan, len(best))]
    for step, layer in enumerate(order, start=1):
        if len(kept) == layers or (target is not None and best.mean() <= target):
            break
        angles = measured([*kept, layer])
        better = bool(angles.mean() < best.mean())
        described = (step, layer, module_of(workload.model, layer), better, power[layer] / whole)
        rows.append((*described, *angle_interval(angles), *interval(best - angles), len(angles)))
        if better:
            kept.append(layer)
            best = angles
        measuring.report(STAGE, len(kept) if layers is not None else step, len(order) if layers is None else layers)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs = {
        "workload": workload.name,
        "formats": {chosen.name: chosen.digest},
        "effect": wanted,
        CHOSEN: kept,
        "minibatches": len(batches),
        "exact": list(exact),
    }
    table.attrs.update(rules.settings)
    return table


def _alone(
    gradients: Gradients, chosen: Candidate, effect: Effect, measuring: Measuring
) -> Iterable[tuple[str, float]]:
    """Each layer that can be kept, with the angle of nothing but that one rounded."""
    forward, backward = formats_of(chosen)
    activation, error = activation_quantizer(forward, gradients.scheme), error_quantizer(backward, gradients.scheme)
    weights = list(gradients.weights) if effect is Effect.WAE else []
    named = [point.layer for point in gradients.flow.points if not point.exact and point.layer]
    every = list(dict.fromkeys([*named, *(layer_of(name) for name in weights)]))
    layers = [layer for layer in every if not any(other.startswith(f"{layer}.") for other in every)]
    for done, layer in enumerate(layers, start=1):
        with ExitStack() as opened:
            if own := [name for name in weights if layer_of(name) == layer]:
                opened.enter_context(gradients.rounded_weights(forward, own))
            loss = gradients.forward(None if effect is Effect.E else in_layers(activation, layer.__eq__))
            found = gradients.backward(loss, None if effect is Effect.A else in_layers(error, layer.__eq__), keep=False)
        yield layer, degrees(layer_sums(found, gradients.full).sum(0))
        measuring.report("layers", done, len(layers))
