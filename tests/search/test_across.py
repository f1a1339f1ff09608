"""One ranking over several networks."""

import pandas as pd
import pytest

from predictor.measuring.store import Store
from search import rank
from search.across import rank_across, tabulate_across
from tests.nets import net

FORMATS = ["FP134", "INT8", "FP152", "BM43"]


def ranking(ranks, angles, names="PQR"):
    rows = zip(names, ranks, angles, strict=True)
    table = pd.DataFrame(
        [
            {
                "rank": r,
                "name": n,
                "bits": 8,
                "family": "FP",
                "granularity": "tensor",
                "profile": "1",
                "binades": 1,
                "angle_AE": a,
                "low_AE": a - 1,
            }
            for n, r, a in rows
        ]
    )
    return table.assign(high_AE=table["angle_AE"] + 1, n_AE=2, source_AE="measured", seconds=1.0)


def test_mean_rank_and_worst_angle():
    # The second table has another order.
    table = tabulate_across(
        {"one": ranking([1, 2, 3], [5.0, 6.0, 7.0]), "two": ranking([1, 2, 3], [4.0, 8.0, 9.0], "QPR")}, "AE"
    )
    assert table["name"].tolist() == ["Q", "P", "R"]
    assert table["mean_rank"].tolist() == [1.5, 1.5, 3]
    assert table["rank"].tolist() == [1, 1, 3]
    # Of equal mean ranks the one with the smaller worst angle stands first.
    assert table["angle_worst"].tolist() == [6, 8, 9]
    assert table["worst_on"].tolist() == ["one", "two", "two"]
    assert table["low_worst"].tolist() == [5, 7, 8]
    assert table["angle_AE@one"].tolist() == [6, 5, 7]
    assert table["rank@two"].tolist() == [1, 2, 3]


def test_as_ranking_each_alone_and_nothing_is_measured_twice(tmp_path):
    with Store.open(tmp_path / "store.sqlite") as store:
        one, two = net(0), net(1)
        found = rank_across({"one": one, "two": two}, FORMATS, effects=["AE"], minibatches=2, store=store)
        assert found.complete
        assert [found.settings.models[name].gradients for name in ("one", "two")] == [8, 8]
        for name, workload in (("one", one), ("two", two)):
            alone = rank(workload, FORMATS, effects=["AE"], minibatches=2, store=store).table.set_index("name")
            table = found.table.set_index("name")
            assert (table[f"angle_AE@{name}"] == alone["angle_AE"][table.index]).all()
        more = rank_across({"one": one, "two": two}, FORMATS, effects=["AE"], minibatches=2, store=store)
        pd.testing.assert_frame_equal(more.table, found.table)


def test_an_interrupt_leaves_out_networks_behind_it():
    seen = []

    def interrupt(progress):
        seen.append(progress.done)
        if seen.count(0) == 2 and progress.done == 0:  # the second network has not begun to measure
            raise KeyboardInterrupt

    found = rank_across({"one": net(0), "two": net(1)}, FORMATS, effects=["AE"], minibatches=2, progress=interrupt)
    assert (list(found.rankings), found.complete) == (["one"], False)
    assert "rank@two" not in found.table
    with pytest.raises(ValueError, match="no workload"):
        rank_across({})
