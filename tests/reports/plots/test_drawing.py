"""From what is given to the kind of its picture."""

import pandas as pd
import pytest

from reports import results
from reports.plots import drawing


@pytest.mark.parametrize(
    ("given", "kind", "names", "meant"),
    [
        ([], None, ["INT8"], "profiles"),
        (["run"], None, [], "flips"),
        (["run", "run"], "flips", [], "flips"),
        (["run", "run"], "oscillation", [], "oscillation"),
        (["t.npz"], None, ["INT8"], "histograms"),
        (["r.csv"], None, [], "angles"),
        (["r.csv"], "validation", [], "validation"),
    ],
)
def test_the_kind_follows_from_what_is_given(tmp_path, given, kind, names, meant):
    (tmp_path / "run").mkdir()
    assert drawing.kind_of([tmp_path / name for name in given], kind, names) == meant


@pytest.mark.parametrize(
    ("given", "kind", "names", "message"),
    [
        ([], None, [], "nothing to draw was given"),
        ([], "top", ["INT8"], "top are drawn of one result file; given: formats alone"),
        (["run"], "angles", [], "angles are drawn of one result file"),
        (["r.csv"], "flips", [], "flips are drawn of folders that `formats train` wrote"),
        (["r.csv"], "oscillation", [], "oscillation are drawn of folders that `formats train` wrote"),
        (["r.csv"], "histograms", ["INT8"], "one file of tensors"),
        (["r.csv", "r.csv"], None, [], "2 results, of which .* is no folder"),
        (
            ["r.csv"],
            "pie",
            [],
            "kind 'pie': allowed are angles, top, bars, pareto, layers, synthesized, recipes, products, kept, "
            "validation, gap, flips, oscillation, histograms, profiles",
        ),
        (["t.npz"], None, [], "--profiles are drawn alone, or over tensors"),
        (["r.csv"], None, ["INT8"], "--profiles are drawn alone, or over tensors"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, given, kind, names, message):
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=message):
        drawing.kind_of([tmp_path / name for name in given], kind, names)


def test_a_picture_of_a_papers_column(tmp_path):
    table = pd.DataFrame({"rank": [1, 2], "name": ["FP134", "INT8"], "bits": [5, 4]})
    table = table.assign(angle_E=[1.0, 2.0], low_E=[0.5, 1.5], high_E=[1.5, 2.5], source_E="measured")
    results.write(table, tmp_path / "r.csv", {"workload": "net", "by": "E", "minibatches": 4})
    usual = drawing.draw([tmp_path / "r.csv"], drawing.Kind.TOP)
    narrow = drawing.draw([tmp_path / "r.csv"], drawing.Kind.TOP, width=3.4, title=False)
    assert usual.get_size_inches()[0] == 8
    assert narrow.get_size_inches()[0] == pytest.approx(3.4)
    assert usual.axes[0].get_title() == "net: the first 2 of 2 formats by E, 4 mini-batches"
    assert narrow.axes[0].get_title() == ""
    assert len({line.get_marker() for line in usual.axes[0].lines} - {"None"}) == 2
    assert narrow.axes[0].get_xlabel() == "angle of E (degrees)"
    # The legend takes nothing of the axes' width, and lies inside the picture.
    narrow.canvas.draw()
    [legend] = narrow.legends
    assert narrow.axes[0].get_legend() is None
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= narrow.bbox.width
    assert box.y1 <= narrow.axes[0].get_window_extent().y0
    with pytest.raises(ValueError, match=r"--label FP143: not in .*r\.csv; names of it are such as FP134"):
        drawing.draw([tmp_path / "r.csv"], drawing.Kind.TOP, labels=["INT8", "FP143"])
