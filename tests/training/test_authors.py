"""The parts of scheme authors, against exact arithmetic and against the rules written out plainly
(docs/definitions/training.md section 1)."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import formats
from formats import Rounding
from predictor.flow.dataflow import DataFlow
from predictor.scheme import AUTHORS, ScaleRule, Scheme, WeightChannels, scheme_of
from tests.formats.philox import philox_words
from tests.formats.reference import UNIT, Reference, to_float32
from tests.training import small
from tests.training.runs import same, state
from training import checkpoint, train, validate
from training.delayed import Places
from training.methods import LSQ, UnifiedInt8
from training.optimizers import MasterSGD
from training.result import reported_metric
from training.scheme import TensorFormats
from training.settings import TrainingSettings
from training.step import Trainer
from training.weights import Streams, weights_of
from workloads import Workload

FP134, FP169 = formats.get("FP134"), formats.get("FP169")
MASTER = Reference(FP169.profile, 32)
RATE, MOMENTUM, DECAY, SEED = 0.1, 0.9, 5e-4, 11


def run_formats(scheme, weight="FP134", rounding=Rounding.HYSTERESIS):
    return TensorFormats(FP134, FP134, formats.get(weight), FP134, FP169, rounding, scheme=scheme)


def fractions(x):
    return [Fraction(float(v)) for v in x.detach().reshape(-1)]


def exact(x):
    """A fraction rounded once to float32."""
    magnitude = Fraction(to_float32(abs(x)))
    return -magnitude if x < 0 else magnitude


def f32(x):
    return Fraction(float(np.float32(x)))


def exponent(x):
    """floor(log2 |x|) of a fraction other than zero."""
    found = x.numerator.bit_length() - x.denominator.bit_length()
    return found if abs(x) >= Fraction(2) ** found else found - 1


def grid(format, top):
    values = [Fraction(v, 1 << UNIT) for v in Reference(format.profile, top).values]
    return sorted({sign * v for v in values for sign in (1, -1)})


def toward(w, old, values):
    """Hysteresis."""
    below = max((v for v in values if v <= w), default=values[0])
    above = min((v for v in values if v >= w), default=values[-1])
    return above if old > w else below


def moved(top, rounded, saturated, headroom):
    """The rule of delayed scales."""
    m = max(abs(v) for v in rounded)
    grows = m >= Fraction(2) ** (top - headroom + 1) if headroom else saturated
    return top + (grows - (m < Fraction(2) ** (top - headroom)) if m else 0)


class Master:
    """Q_M, stochastic, a stream a call."""

    def __init__(self):
        self.stream = 0

    def __call__(self, values):
        words = philox_words(SEED, self.stream, len(values))
        self.stream += 1
        rounded = [MASTER.round(float(v), Rounding.STOCHASTIC, word) for v, word in zip(values, words, strict=True)]
        return [Fraction(v) for v in rounded]


@pytest.mark.parametrize("layer", ["linear", "convolution"])
@pytest.mark.parametrize(
    ("given", "scheme"),
    [
        *((name, "authors") for name in ("LOG4", "INT4", "profile:4:1x5", "FP134")),
        *(("INT3", f"paper,{part}") for part in ("weight_channels=log-and-int", "rounded_decay=yes")),
        *((name, "paper,weight_scale=delayed") for name in ("LOG4", "T8.5x3@2")),
    ],
)
def test_steps_in_exact_arithmetic(given, scheme, layer):
    """Masters, weights, scales and flips, step by step. Gradients are large enough to move the scales."""
    torch.manual_seed(3)
    format, scheme = formats.get(given), scheme_of(scheme)
    model = (nn.Conv2d(7, 5, 1, bias=False) if layer == "convolution" else nn.Linear(7, 5, bias=False)).requires_grad_()
    [weight] = weights_of(model, run_formats(scheme, format), Streams(SEED))
    optimizer = MasterSGD([weight], RATE, MOMENTUM, DECAY)
    of_channels = (
        given not in ("FP134", "T8.5x3@2")
        if scheme.weight_channels is WeightChannels.LOG_AND_INT
        else layer == "convolution"
    )
    groups = [range(start, start + 7) for start in range(0, 35, 7)] if of_channels else [range(35)]
    q_m, tracked = Master(), scheme.weight_scale is ScaleRule.DELAYED

    def current(w):
        return [exponent(max(abs(w[i]) for i in group)) for group in groups]

    def rounded(w, old, tops):
        found = list(w)
        for group, top in zip(groups, tops, strict=True):
            values = grid(format, top)
            for i in group:
                found[i] = toward(w[i], old[i], values)
        return found

    w, wq, v = fractions(weight.master), fractions(weight.parameter), [Fraction(0)] * 35
    used = tops = current(w)
    changes, by_scale, flips = 0, 0, 0
    for step in range(7):
        gradient = FP134.round(torch.randn(5, 7) * 2.0 ** (2 * step if step < 4 else -4)).reshape(weight.master.shape)
        weight.take_gradient(gradient, None)
        optimizer.step()
        seen = weight.requantize()

        decay, mu, rate = f32(DECAY), f32(MOMENTUM), f32(RATE)
        d = [exact(exact(decay * a) + b) for a, b in zip(wq, fractions(gradient), strict=True)]
        d = q_m(d) if scheme.rounded_decay else d
        v = q_m([exact(exact(mu * a) + b) for a, b in zip(v, d, strict=True)])
        w = q_m([exact(a - exact(rate * b)) for a, b in zip(w, v, strict=True)])
        before, tops = wq, tops if tracked else current(w)
        wq = rounded(w, before, tops)
        still = rounded(w, before, used)
        flipped = [a != b for a, b in zip(before, wq, strict=True)]
        assert fractions(optimizer.state[weight.master]["momentum_buffer"]) == v
        assert fractions(weight.master) == w
        assert fractions(weight.parameter) == wq
        assert (seen.top_low, seen.top_high) == (min(tops), max(tops))
        assert seen.flips == sum(flipped)
        assert seen.flips_by_scale == sum(f and a == b for f, a, b in zip(flipped, before, still, strict=True))
        beyond = [
            any(abs(w[i]) > grid(format, top)[-1] for i in group) for group, top in zip(groups, tops, strict=True)
        ]
        assert (seen.overflows > 0) == any(beyond)
        used, changes = tops, changes + (tops != used)
        by_scale, flips = by_scale + seen.flips_by_scale, flips + seen.flips
        if tracked:
            tops = [
                moved(top, [wq[i] for i in group], over, 0)
                for top, group, over in zip(tops, groups, beyond, strict=True)
            ]
            assert all(abs(a - b) <= 1 for a, b in zip(tops, used, strict=True))
            assert weight.tops.reshape(2, -1).tolist() == [used, tops]
            changes += tops != used
    assert changes
    # Where a format is fine, only its smallest values are others at another scale.
    assert 0 < by_scale < flips or (given in ("FP134", "T8.5x3@2") and not by_scale and flips)


def test_channels_of_the_weights():
    """Of fixed point and logarithmic ones in all layers, those of transposed convolutions second."""
    model = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.Conv1d(4, 6, 1, bias=False), nn.ConvTranspose2d(6, 5, 1, bias=False)
    )

    def groups(scheme, name):
        found = weights_of(model, run_formats(scheme, name), Streams(0))
        return [None if weight.tops is None else tuple(weight.tops.shape) for weight in found]

    assert groups(AUTHORS, "INT8") == groups(AUTHORS, "LOG4") == [(2, 4), (2, 6), (2, 5)]
    assert groups(AUTHORS, "FP125") == [(2,), (2,), (2,)]
    assert groups(replace(AUTHORS, weight_channels="convolutions"), "FP125") == [(2,), (2, 6), (2, 5)]
    assert groups(AUTHORS, "FP125/channel@1") == [(2, 3), (2, 4), (2, 5)]
    # Formats with blocks or a rule of their own follow it.
    for name in ("BM43", "INT4/block4", "E4M3", "NF4", "MXFP4", "INT8/real", "float32"):
        given = run_formats(AUTHORS) if name == "float32" else run_formats(AUTHORS, name)
        given = replace(given, weight=None) if name == "float32" else given
        assert [weight.tops for weight in weights_of(model, given, Streams(0))] == [None] * 3


def test_normalization_and_biases_have_the_formats_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    weights = weights_of(model, run_formats(scheme_of("paper,all_parameters=yes")), Streams(SEED))[1:]
    assert [weight.name for weight in weights] == ["0.bias", "1.weight", "1.bias"]
    optimizer, places = MasterSGD(weights, RATE, MOMENTUM, DECAY), Places("G", FP134, 2)
    q_m = Master()
    w = {weight.name: fractions(FP169.round(weight.parameter.detach())) for weight in weights}
    v = {weight.name: [Fraction(0)] * 4 for weight in weights}
    assert all(fractions(weight.master) == w[weight.name] for weight in weights)
    tops = {}
    for step in range(3):
        for weight in weights:
            gradient = torch.randn(4) * 3.0**step
            weight.take_gradient(gradient, places)
            g = fractions(gradient)
            top = tops.setdefault(weight.name, exponent(max(map(abs, g))) + 2)
            reference = Reference(FP134.profile, top)
            g = [Fraction(reference.round(float(a))) for a in g]
            assert fractions(weight.master.grad) == g
            tops[weight.name] = moved(top, g, False, 2)
            d = [exact(exact(f32(DECAY) * a) + b) for a, b in zip(w[weight.name], g, strict=True)]
            v[weight.name] = [exact(exact(f32(MOMENTUM) * a) + b) for a, b in zip(v[weight.name], d, strict=True)]
        optimizer.step()
        places.advance()
        for weight in weights:
            v[weight.name] = q_m(v[weight.name])
            w[weight.name] = q_m(
                [exact(a - exact(f32(RATE) * b)) for a, b in zip(w[weight.name], v[weight.name], strict=True)]
            )
            assert fractions(optimizer.state[weight.master]["momentum_buffer"]) == v[weight.name]
            # The network computes with the master.
            assert fractions(weight.master) == fractions(weight.parameter) == w[weight.name]
            assert weight.requantize() is None


def test_a_method_keeps_its_own_parameters_in_float32():
    found = train(
        small.workload(), epochs=1, scheme="authors,settling=2", master="FP169", gradient="FP134", method=LSQ()
    )
    own = found.method_state.parameters
    assert own
    assert any(not torch.equal(p, FP169.round(p.detach())) for p in own.values())
    bias = dict(found.model.named_parameters())["0.bias"]
    assert torch.equal(bias, FP169.round(bias.detach()))


def trainer_of(scheme, loss, batches, weight="FP134", model=None):
    """A small network in training, for steps one by one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)) if model is None else model
    workload = Workload("steps", model, batches, loss)
    settings = TrainingSettings(epochs=3, rate=0.01, seed=SEED)
    return Trainer(workload, model.train(), run_formats(scheme_of(scheme), weight), settings, 30)


@pytest.mark.parametrize(("scheme", "tops"), [("paper", [1, 1, 2, 3]), ("paper,last_error=current", [1, 7, 8, 1])])
def test_the_scale_of_the_last_error(scheme, tops):
    """The loss is a multiple of the sum of all outputs, and so is the last error."""
    batches = [(torch.randn(5, 6), factor) for factor in (1.0, 64.0, 191.0, 1.0)]
    trainer = trainer_of(scheme, lambda model, batch: batch[1] * model(batch[0]).sum() / 1000, batches)
    found = []
    with trainer:
        for batch in batches:
            scaled = (batch[0], batch[1] * 1000)
            seen = trainer.step(scaled).seen
            errors = {(entry.place, entry.term): entry for entry in seen if entry.kind == "E"}
            found.append(errors["2:linear", 0].top_low)
            assert ("2:linear", 1) in errors
    assert found == tops
    kept = [place for place, _, _ in trainer.rounded.tops["E"]]
    assert ("2:linear" in kept) == (scheme == "paper")
    assert "0:linear" in kept


def test_the_tops_of_a_delayed_scale_settle():
    """Against the rule by itself; and nothing else moves."""
    torch.manual_seed(1)
    batches = [(torch.randn(16, 6) * 4.0**k, torch.randint(0, 4, (16,))) for k in range(4)]
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 4))
    trainer = trainer_of("paper", lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), batches, model=model)
    before, generator = state(model), torch.get_rng_state()
    with trainer:
        for batch in batches:
            trainer.settle(batch)
    assert same(state(model), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert trainer.streams.next == 0
    assert not trainer.optimizer.state

    tops, largest = {}, {}

    def by_rule(kind, headroom):
        def quantize(x, point):
            def one(x, term):
                key = kind, point.name, term
                if key not in tops:
                    tops[key] = int(np.floor(np.log2(float(x.abs().max())))) + headroom
                rounded = FP134.round(x, top=tops[key])
                largest[key] = max(Fraction(float(rounded.abs().max())), largest.get(key, 0))
                return rounded

            if point.two_terms if kind == "A" else point.last:
                first = one(x, 0)
                return first + one(x - first, 1)
            return one(x, 0)

        return quantize

    for batch in batches:
        largest.clear()
        torch.set_rng_state(generator)
        with DataFlow(model) as flow:
            flow.activation, flow.error = by_rule("A", 1), by_rule("E", 1)
            weights = [weight.parameter for weight in trainer.weights]
            found = flow.gradients(trainer.workload.loss(model, batch), weights)
        for weight, g in zip(trainer.weights, found, strict=True):
            if weight.in_formats:
                key = "G", weight.name, 0
                tops.setdefault(key, int(np.floor(np.log2(float(g.abs().max())))) + 2)
                largest[key] = Fraction(float(FP134.round(g, top=tops[key]).abs().max()))
        tops |= {key: moved(tops[key], [m], False, 2 if key[0] == "G" else 1) for key, m in largest.items()}
        for name, values in before.items():
            model.state_dict()[name].copy_(values)
    settled = {(kind, place, term): top for kind, each in trainer.rounded.tops.items() for place, term, top in each}
    assert settled == tops
    assert len({key[0] for key in settled}) == 3


def test_settling_takes_the_mini_batches_in_the_order_of_training():
    told, seen = [], []

    def loss(model, batch):
        seen.append(int(batch[1].sum()))
        return small.loss(model, batch)

    train(replace(small.workload(), loss=loss, test=None), epochs=1, scheme="paper,settling=11", progress=told.append)
    assert [(at.stage, at.done, at.total) for at in told[:11]] == [("settle", k, 11) for k in range(1, 12)]
    assert [at.stage for at in told[11:]] == ["step"] * 8
    sums = [int(batch[1].sum()) for batch in small.workload().batches]
    order = np.random.default_rng((0, 0)).permutation(8)
    # Before them the flow is held against torch.
    assert seen[-19:] == [sums[k] for k in (*order, *order[:3], *order)]
    told.clear()
    train(small.workload(), epochs=1, scheme="current,settling=11", progress=told.append)
    assert told[0].stage == "step"  # there is nothing to settle


def test_a_settled_run_begins_with_other_scales_and_the_same_weights():
    settled, plain = (train(small.workload(), epochs=1, scheme=f"paper,settling={n}") for n in (20, 0))
    assert settled.steps.loss[0] != plain.steps.loss[0]
    first = settled.layers[settled.layers.step == 1]
    assert set(first.kind) == {"W", "A", "E", "G"}


def test_the_best_epoch_is_reported(tmp_path):
    options = {"epochs": 4, "rate": 0.6, "seed": 2, "schedule": "constant"}
    found = {name: train(small.workload(), scheme=name, **options) for name in ("paper", "paper,best_epoch=yes")}
    metrics = found["paper"].epochs.metric
    assert metrics.max() > metrics.iloc[-1]
    assert found["paper"].metric == metrics.iloc[-1]
    assert found["paper,best_epoch=yes"].metric == metrics.max()
    lower = replace(small.workload(), lower_is_better=True)
    assert train(lower, scheme="paper,best_epoch=yes", **options).metric == metrics.min()
    rows = [{"metric": value} for value in (0.5, None, float("nan"), 0.25)]
    assert [reported_metric(rows, best, lower) for best in (False, True) for lower in (False, True)] == [0.25] * 2 + [
        0.5,
        0.25,
    ]
    assert reported_metric([], True, False) is None
    assert reported_metric([{"metric": None}], True, False) is None


def test_hysteresis_until_an_epoch():
    """Every weight of the later epochs is the nearest one of its master."""
    batches = small.workload().batches[:2]
    torch.manual_seed(0)
    model = small.network()
    workload = Workload("until", model, batches, small.loss)
    given = run_formats(scheme_of("paper"), "INT4")
    trainer = Trainer(
        workload, model.train(), given, TrainingSettings(epochs=3, rate=0.05, hysteresis_epochs=2), 6, None, batches
    )
    nearest = []
    with trainer:
        for epoch in (1, 2, 3):
            trainer.begin_epoch(epoch)
            for batch in batches:
                trainer.step(batch)
                linear = next(weight for weight in trainer.weights if weight.name == "8.weight")
                nearest.append(torch.equal(linear.parameter, formats.get("INT4").round(linear.master.detach())))
    assert nearest == [False] * 4 + [True] * 2


def test_hysteresis_epochs_that_cannot_be():
    with pytest.raises(ValueError, match="hysteresis epochs 2: weight rounding is nearest; give both only"):
        train(small.workload(), epochs=3, weight_rounding="nearest", hysteresis_epochs=2)
    with pytest.raises(ValueError, match="hysteresis epochs 0: a whole number of at least 1"):
        train(small.workload(), epochs=3, hysteresis_epochs=0)


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    """Its settings have no parts that there were none of, and another name for what is no preset."""
    whole = train(small.workload(), epochs=2, scheme="paper,headroom=2", output=tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(at):
        if at.done == 9:
            raise Stop

    options = {"epochs": 2, "output": tmp_path / "part", "scheme": "paper,headroom=2"}
    with pytest.raises(Stop):
        train(small.workload(), progress=stop, **options)
    path = tmp_path / "part" / checkpoint.NAME
    tensors, kept = checkpoint.read(path)
    earlier = ("scale", "headroom", "gradient_headroom", "two_terms")
    later = set(AUTHORS.settings) - {"scheme", *earlier} | {"hysteresis_epochs"}
    kept["settings"] = {key: value for key, value in kept["settings"].items() if key not in later}
    kept["settings"]["scheme"] = "delayed, headroom 2 (2 for weight gradients)"
    checkpoint.write(path, tensors, kept)
    for changed, message in (
        ({"scheme": "paper,headroom=2,branches=yes"}, "made with branches False, not True"),
        ({"hysteresis_epochs": 1}, "made with hysteresis_epochs None, not 1"),
    ):
        with pytest.raises(ValueError, match=message):
            train(small.workload(), resume=True, **options | changed)
    went_on = train(small.workload(), resume=True, **options)
    assert same(state(whole.model), state(went_on.model))
    assert whole.epochs.equals(went_on.epochs)


def test_scales_of_weights_that_are_missing_in_a_checkpoint(tmp_path):
    options = {"epochs": 1, "scheme": "paper,weight_scale=delayed", "output": tmp_path}
    train(small.workload(), **options)
    path = tmp_path / checkpoint.NAME
    tensors, kept = checkpoint.read(path)
    assert {name for name in tensors if name.startswith("tops.")} == {f"tops.{k}.weight" for k in (0, 3, 8)}
    for damaged in (None, torch.zeros(3, dtype=torch.int64), torch.zeros(2, 8)):
        changed = {name: values for name, values in tensors.items() if name != "tops.0.weight"}
        checkpoint.write(path, changed if damaged is None else changed | {"tops.0.weight": damaged}, kept)
        with pytest.raises(ValueError, match=r"tops.0.weight (is missing|has shape)"):
            train(small.workload(), resume=True, **options)


def test_a_ranking_of_another_scheme_is_refused(tmp_path):
    import pandas as pd

    ranking = pd.DataFrame({"name": ["FP134", "INT8", "FP143"], "bits": 8, "angle_AE": [1.0, 2.0, 3.0]})
    given = {"output": tmp_path, "count": 3, "seeds": 1, "epochs": 1}
    with pytest.raises(ValueError, match="the ranking is of scheme paper, the trainings are of scheme authors: rank"):
        validate(small.workload(), ranking, ranked="paper", scheme="authors", **given)
    found = validate(small.workload(), ranking, ranked=Scheme(branches=True), scheme="authors,settling=3", **given)
    assert found.settings["scheme"] == "authors,settling=3"
    assert {found.settings[key] for key in ("branches", "rounded_decay", "best_epoch")} == {True}


@pytest.mark.parametrize("method", [None, UnifiedInt8()], ids=["formats", "method"])
def test_all_of_it_together_learns(method):
    found = train(
        small.workload(),
        epochs=3,
        rate=0.05,
        scheme="authors,settling=5",
        activation="FP134",
        error="FP134",
        method=method,
    )
    assert found.epochs.loss.iloc[-1] < 1.39  # chance
    assert found.metric == found.epochs.metric.max()
