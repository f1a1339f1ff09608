"""Attribution against gradients written out, its table, and what Ctrl-C leaves."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import formats
from predictor import Pair, measure
from predictor.attribution import COLUMNS, attribute, estimate
from predictor.gradient.angle import degrees, layer_sums
from predictor.statistics import angle_interval
from tests.nets import small_workload
from tests.predictor.held import assert_own, held
from workloads import Workload

FORWARD, BACKWARD = formats.get("FP123"), formats.get("INT6")
KINDS = ["W", "A", "E", "G"]


class Identity:
    name, digest = "identity", "identity-1"

    def round(self, x):
        return x.clone()


@pytest.fixture(scope="module")
def workload():
    return small_workload(3)


def test_every_row_is_the_angle_of_a_gradient_written_out():
    """Two linear layers, whose gradients are two products."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Linear(8, 4, bias=False))
    batches = [(torch.randn(5, 6), torch.randn(5, 4)) for _ in range(2)]
    workload = Workload("two", model, batches, lambda m, b: (m(b[0]) * b[1]).sum())

    def one(format, v):
        return format.round(v)

    def two(format, v):
        return format.round(v) + format.round(v - format.round(v))

    def gradients(batch, rounded):
        def q(kind, layer, v, terms=one):
            return terms(FORWARD if kind in "WA" else BACKWARD, v) if (kind, layer) in rounded else v

        x = q("A", "(network)", batch[0], two)
        first, second = (q("W", str(i), model[i].weight.detach()) for i in range(2))
        h = q("A", "0", x @ first.T)
        e = q("E", "1", batch[1], two)
        return [q("G", "0", q("E", "0", e @ second).T @ x), q("G", "1", e.T @ h)]

    everything = {(kind, layer) for kind in KINDS for layer in ("0", "1")} | {("A", "(network)"), ("E", "(network)")}

    def chosen(kind, layer):
        return {entry for entry in everything if kind in ("WAEG", entry[0]) and layer in ("all", entry[1])}

    def angle(rounded):
        angles = [degrees(layer_sums(gradients(batch, rounded), gradients(batch, set())).sum(0)) for batch in batches]
        return angle_interval(np.array(angles))

    table = attribute(workload, Pair(FORWARD, BACKWARD), scheme="current")
    layers = [(kind, layer) for kind in KINDS for layer in (["(network)"] if kind in "AE" else []) + ["0", "1"]]
    assert list(zip(table.kind, table.layer, strict=True)) == [("WAEG", "all"), *((k, "all") for k in KINDS), *layers]
    for _, row in table.iterrows():
        mine = chosen(row.kind, row.layer)
        assert (row.angle_alone, row.low_alone, row.high_alone) == pytest.approx(angle(mine), rel=1e-5), tuple(row)
        if row.kind == "WAEG":
            assert math.isnan(row.angle_without)
        else:
            assert (row.angle_without, row.low_without, row.high_without) == pytest.approx(
                angle(everything - mine), rel=1e-5
            ), tuple(row)
    assert (table.n == 2).all()


def test_kinds_are_the_effects_that_measure_finds(workload):
    table = attribute(workload, "FP134", 2)
    assert tuple(table.columns) == COLUMNS
    kinds = table[table.layer == "all"].set_index("kind")
    exact = measure(workload, ["FP134"], ["E", "A", "W", "WAE"], 2).set_index("effect")
    for kind in "EAW":
        assert tuple(kinds.loc[kind, ["angle_alone", "low_alone", "high_alone"]]) == tuple(
            exact.loc[kind, ["angle", "low", "high"]]
        )
    assert kinds.angle_without["G"] == exact.angle["WAE"]


def test_layers_are_those_that_are_not_kept_exact(workload):
    """One layer of E or W alone is everything with the other layers kept exact."""
    table = attribute(workload, "INT6", 2).set_index(["kind", "layer"])
    for layer, other in (("0", "3"), ("3", "0")):
        exact = measure(workload, ["INT6"], ["E", "A", "W"], 2, exact=["", other]).set_index("effect")
        for kind in "EAW":
            assert table.angle_alone[kind, layer] == exact.angle[kind], (kind, layer)
    kept = attribute(workload, "INT6", 2, exact=["3"]).set_index(["kind", "layer"])
    assert set(kept.index.get_level_values("layer")) == {"all", "(network)", "0"}
    # Of what has only one layer left, the layer is the kind.
    for kind in "WG":
        pd.testing.assert_series_equal(
            *(kept.loc[(kind, layer)].drop(["share", "module"]) for layer in ("all", "0")), check_names=False
        )
    assert kept.angle_alone["E", "0"] == kept.angle_alone["E", "all"]
    assert kept.module["E"].to_dict() == {"all": "", "(network)": "", "0": "Conv2d"}


def test_shares_add_up_and_an_exact_forward_pass_has_none(workload):
    table = attribute(workload, Pair(Identity(), BACKWARD), 1)
    kinds, layers = (table[(table.layer == "all") == of_kinds] for of_kinds in (True, False))
    assert kinds.share.sum() == pytest.approx(1)
    assert layers.share.sum() == pytest.approx(1)
    of = kinds.set_index("kind")
    tangents = np.tan(np.radians(of.angle_alone[["E", "G"]])) ** 2
    assert of.share["E"] == pytest.approx(tangents["E"] / tangents.sum())
    for part in (kinds, layers):
        assert (part[part.kind.isin(["W", "A"])][["angle_alone", "share"]] == 0).all(axis=None)
    assert of.angle_without["W"] == of.angle_alone["WAEG"] > 0
    nothing = attribute(workload, Identity(), 1)
    assert (nothing.angle_alone == 0).all()
    assert (nothing.share.dropna() == 0).all()


def test_an_angle_beyond_ninety_degrees_counts_as_ninety():
    class Backwards(Identity):
        def round(self, x):
            return -x

    table = attribute(small_workload(1), Pair(formats.get("INT6"), Backwards())).set_index(["kind", "layer"])
    for kind in "EG":
        assert table.angle_alone[kind, "all"] > 90
        assert table.share[kind, "all"] == pytest.approx(0.5)


def test_the_same_again_weights_untouched_and_settings(workload):
    before = held(workload.model)
    seen = []
    first = attribute(workload, "FP134", 2, progress=lambda at: seen.append((at.done, at.total)))
    assert_own(workload.model, before)
    pd.testing.assert_frame_equal(first, attribute(workload, "FP134", 2))
    planned = estimate(workload, "FP134", 2)
    assert (planned.rows, planned.minibatches, planned.points) == (len(first), 2, 3)
    assert seen == [(done, planned.gradients) for done in range(1, planned.gradients + 1)]
    assert planned.seconds > 0
    settings = first.attrs
    assert settings["complete"]
    assert (settings["workload"], settings["minibatches"], settings["gradients"]) == ("small", 2, planned.gradients)
    assert settings["formats"] == {"FP134": formats.get("FP134").digest}


@pytest.mark.slow
def test_interruption_keeps_finished_rows(workload):
    before = held(workload.model)
    whole = attribute(workload, "FP134", 1).set_index(["kind", "layer"])
    total = estimate(workload, "FP134", 2).gradients
    sizes = []
    for stop in range(1, total + 1):

        def progress(at, stop=stop):
            if at.done == stop:
                raise KeyboardInterrupt

        if stop <= 2:  # no row is finished yet
            with pytest.raises(KeyboardInterrupt):
                attribute(workload, "FP134", 2, progress=progress)
            continue
        table = attribute(workload, "FP134", 2, progress=progress)
        assert_own(workload.model, before)
        assert not table.attrs["complete"]
        assert table.attrs["gradients"] == stop
        assert (table.n.diff().dropna() <= 0).all()
        once = table[table.n == 1].set_index(["kind", "layer"])
        if stop <= total // 2:
            pd.testing.assert_series_equal(once.angle_without, whole.angle_without[once.index])
        sizes.append(table.n.sum())
    assert sizes == sorted(sizes)
    assert sizes[0] == 1
    assert sizes[-1] > 2 * len(whole) - 5


def test_refusals(workload):
    for arguments, message in (
        (("FP13",), "unknown format 'FP13'"),
        (("FP134", 0), "0 mini-batches"),
        (("FP134", 9), "9 mini-batches were asked for"),
    ):
        with pytest.raises(ValueError, match=message):
            attribute(workload, *arguments)
    with pytest.raises(ValueError, match="no layer 'head' to keep exact"):
        attribute(workload, "FP134", exact=["head"])
