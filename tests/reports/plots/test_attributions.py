"""Bars of what causes an angle, and angles layer by layer."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors, image

from predictor.attribution import COLUMNS
from reports.plots import attributions, style


def attribution(layers=40, interval=True):
    half = 0.5 if interval else np.nan
    rows = [("WAEG", "all", "", 9.0, 9 - half, 9 + half, np.nan, np.nan, np.nan, np.nan, 2)]
    rows += [
        (k, "all", "", a, a - half, a + half, 9 - a / 2, 9 - a / 2 - half, 9 - a / 2 + half, 0.25, 2)
        for k, a in zip("WAEG", (5.0, 7.0, 1.0, 0.3), strict=True)
    ]
    rows += [
        ("WAEG"[i % 4], f"layer{i}", "Linear", a, a - half, a + half, 9.0, 9 - half, 9 + half, 1 / 40, 2)
        for i in range(layers)
        for a in (1 + (7 * i % 40) / 10,)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize("interval", [True, False])
def test_the_largest_layers_coloured_by_kind(interval):
    table = attribution(interval=interval)
    figure = attributions.attribution(table, "what causes it")
    above, below = figure.axes
    assert [bar.get_width() for bar in above.patches] == [9, 5, 7, 1, pytest.approx(0.3)]
    assert [text.get_text() for text in above.get_yticklabels()] == [
        "everything", "W, weights", "A, activations", "E, errors", "G, weight gradients",
    ]  # fmt: skip
    largest = table[table.layer != "all"].sort_values("angle_alone", ascending=False).head(24)
    assert [bar.get_width() for bar in below.patches] == list(largest.angle_alone)
    for bar, label, (_, row) in zip(below.patches, below.get_yticklabels(), largest.iterrows(), strict=True):
        assert label.get_text().split() == [row.layer, "Linear", row.kind]
        assert colors.same_color(bar.get_facecolor(), attributions.KINDS[row.kind][0])
    # The first on top.
    assert below.get_ylim()[0] > below.get_ylim()[1]
    marks = next(line for line in above.lines if line.get_marker() == "D")
    assert list(marks.get_xdata())[1:] == [6.5, 5.5, 8.5, pytest.approx(8.85)]
    assert above.get_title() == "what causes it"


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_table_cut_short_is_drawn_too(tmp_path, ending):
    for number, table in enumerate((attribution(0), attribution(3), attribution().head(1))):
        path = tmp_path / f"{number}.{ending}"
        style.save(attributions.attribution(table, "part"), path)
        if ending == "png":
            assert image.imread(path).shape[1] == 1200
        elif ending == "svg":
            assert path.read_text().rstrip().endswith("</svg>")
        else:
            assert path.read_bytes().startswith(b"%PDF-")


def test_layers_of_an_attribution_and_of_a_measurement():
    [drawn] = attributions.layers(attribution(8), "why").axes[0].images
    grid = drawn.get_array()
    assert grid.shape == (8, 4)
    assert [grid[2, 0], grid[0, 1], grid[5, 0]] == pytest.approx([1.0, 1.7, 3.8])
    # In the order of the points, where there are any, with what they are.
    table = attribution(8).assign(module=["", "", "", "", "", *["Linear"] * 7, ""])
    names = [text.get_text() for text in attributions.layers(table, "why").axes[0].get_yticklabels()]
    assert names == [f"layer{place}  Linear" for place in (1, 5, 0, 2, 3, 4, 6)] + ["layer7"]
    rows = [(f, "AE", s, a) for f, a in (("FP134", 2.0), ("INT8", 3.0)) for s in ("b", "a", "all")]
    figure = attributions.layers(pd.DataFrame(rows, columns=["format", "effect", "scope", "angle"]), "layers")
    assert figure.axes[0].images[0].get_array().tolist() == [[2, 3], [2, 3]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["b", "a"]
    with pytest.raises(ValueError, match="--scope layers"):
        attributions.layers(
            pd.DataFrame({"format": ["FP134"], "effect": ["E"], "scope": ["all"], "angle": [1.0]}), "none"
        )
    with pytest.raises(ValueError, match="formats attribute"):
        attributions.layers(pd.DataFrame({"name": []}), "none")
