"""The search: what it synthesizes, and that what it says of it is what measuring says."""

import numpy as np
import pytest
import torch.nn.functional as F
from torch import nn, randn

import formats
from predictor import measure
from predictor.effects import DEFAULT_EFFECTS
from predictor.measuring.session import Measuring
from predictor.statistics import interval
from search import Constraints, search
from search.layers import search_layers
from search.stages import Stage
from tests.nets import small_workload
from workloads import Workload


@pytest.fixture(scope="module")
def workload():
    return small_workload(4)


@pytest.fixture(scope="module")
def found(workload):
    seen = []
    return search(workload, minibatches=3, best=2, progress=seen.append), seen


def test_the_table(found):
    result, seen = found
    table = result.table.set_index("name")
    assert result.complete
    assert (table.n_AE == 3).all()
    assert table.angle_AE.is_monotonic_increasing
    assert table.loc["FP134", "role"].startswith("reference")
    for effect in ("E", "A", "AE"):
        for role in ("synthesized", "catalogue", "block"):
            of = [[part.split()[1:] for part in roles.split(", ") if part.split()[0] == role] for roles in table.role]
            assert sum(effect in listed[0] for listed in of if listed) == (2 if role == "synthesized" else 1), (
                effect,
                role,
            )
        tensor_scaled = table[
            (table.granularity == "tensor") & table.role.str.contains("reference|catalogue|synthesized")
        ]
        assert tensor_scaled[f"score_{effect}"].idxmin() in set(
            table[table.role.str.contains(f"synthesized.*{effect}")].index
        )
    assert table.role.str.contains("pair AE").sum() == 2
    assert {entry.stage for entry in seen} == {Stage.SCREEN, Stage.ANCHORS, Stage.MEASURE}
    assert (seen[-1].done, seen[-1].total) == (len(table) * 3,) * 2
    assert result.settings.held_out
    assert result.settings.formats["FP134"] == formats.get("FP134").digest


def test_names_give_the_measured_formats_and_differences_are_paired(workload, found):
    table = found[0].table.set_index("name")
    names = ["FP134", *table.index[table.role.str.contains("synthesized|pair")]]
    exact = measure(workload, names, minibatches=3).set_index(["format", "effect"]).angle
    for name in names:
        for effect in ("E", "A", "AE"):
            assert table.loc[name, f"angle_{effect}"] == exact[name, effect]
    chosen = [formats.get("FP134"), formats.get(next(name for name in names[1:] if "+" not in name))]
    angles = np.array(
        [m.angle() for m in Measuring(workload).measured(chosen, workload.batches[:3], DEFAULT_EFFECTS)]
    ).reshape(3, 2, 3)
    for number, effect in enumerate(("E", "A", "AE")):
        expected = interval(angles[:, 1, number] - angles[:, 0, number])
        row = table.loc[chosen[1].name]
        assert (
            row[f"difference_{effect}"],
            row[f"difference_low_{effect}"],
            row[f"difference_high_{effect}"],
        ) == expected


def test_other_widths_and_constraints(workload):
    result = search(
        workload, 5, effects=["A"], constraints=Constraints(runs=2, headrooms=(1,)), best=3, passes=2, minibatches=4
    )
    assert not result.settings.held_out
    table = result.table
    assert set(table.bits) == {5}
    made = table[table.role.str.contains("synthesized")]
    assert len(made) == 3
    assert all(profile.count(",") <= 1 for profile in made.profile)
    assert result.settings.reference in {"INT5", "FP122", "FP131"}
    assert table.role.str.contains("reference").sum() == 1
    none_free = search(workload, 5, effects=["E"], constraints=Constraints(runs=2, headrooms=(0,)), minibatches=1).table
    assert none_free[none_free.role.str.contains("synthesized")].name.str.endswith("/headroom0").all()


def test_an_interrupt_keeps_what_was_measured(workload):
    def interrupt(progress):
        if progress.stage is Stage.MEASURE and progress.done == 2:
            raise KeyboardInterrupt

    result = search(workload, effects=["E"], best=1, minibatches=2, progress=interrupt)
    assert not result.complete
    assert result.table.n_E.sum() == 2
    assert result.table.set_index("name").loc["FP134", "difference_E"] == 0


def test_layers(workload):
    table, settings = search_layers(workload, 6.5, widths=(6, 8), effect="A")
    assert table.bits.tolist() == [6, 8]
    assert (settings.effect, settings.widths) == ("A", (6, 8))


def test_refusals(workload):
    with pytest.raises(ValueError, match="9 bits: formats of 2 to 8"):
        search(workload, 9)
    with pytest.raises(ValueError, match="the best 0 formats"):
        search(workload, best=0)
    seen = []
    with pytest.raises(ValueError, match=r"an average of 3\.0 bits"):
        search_layers(workload, 3.0, progress=seen.append)
    assert not seen
    for passes in (0, 5):
        with pytest.raises(ValueError, match=f"{passes} noise passes: 1 to 4 are possible"):
            search(workload, passes=passes)
    for effect in ("W", "WAE"):
        with pytest.raises(
            ValueError, match=f"effect {effect}: formats are fitted to errors and activations; allowed are E, A, AE"
        ):
            search(workload, effects=[effect])
        with pytest.raises(ValueError, match=f"effect {effect}: formats are fitted"):
            search_layers(workload, 6.5, effect=effect)
    model = nn.Linear(4, 3)
    single = Workload("single", model, [(randn(2, 4), randn(2, 3))], lambda m, b: F.mse_loss(m(b[0]), b[1]))
    with pytest.raises(ValueError, match="effect E: workload single rounds no E in one term"):
        search(single)
