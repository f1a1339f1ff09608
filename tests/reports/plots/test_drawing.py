"""From what is given to the kind of its picture."""

import pytest

from reports.plots import drawing


@pytest.mark.parametrize(
    ("given", "kind", "names", "meant"),
    [
        ([], None, ["INT8"], "profiles"),
        (["run"], None, [], "flips"),
        (["run", "run"], "flips", [], "flips"),
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
        (["r.csv"], "histograms", ["INT8"], "one file of tensors"),
        (["r.csv", "r.csv"], None, [], "2 results, of which .* is no folder"),
        (
            ["r.csv"],
            "pie",
            [],
            "kind 'pie': allowed are angles, top, pareto, layers, synthesized, validation, gap, flips, histograms, "
            "profiles",
        ),
        (["t.npz"], None, [], "--profiles are drawn alone, or over tensors"),
        (["r.csv"], None, ["INT8"], "--profiles are drawn alone, or over tensors"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, given, kind, names, message):
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=message):
        drawing.kind_of([tmp_path / name for name in given], kind, names)
