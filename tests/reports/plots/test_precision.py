"""Profiles, histograms under them, and what a search has made."""

import numpy as np
import pandas as pd
import pytest

from reports.plots import precision


def test_profiles_are_bars_over_the_same_binades():
    given = precision.profiles_of(["FP134", "e4m3", "profile:8:4x2,5"])
    assert [name for name, _ in given][:2] == ["FP134", "E4M3"]
    figure = precision.profiles(given, "profiles")
    for axes, (name, profile) in zip(figure.axes, given, strict=True):
        assert axes.get_title(loc="left") == name
        assert tuple(bar.get_height() for bar in axes.patches) == profile
        assert [bar.get_x() + bar.get_width() / 2 for bar in axes.patches] == pytest.approx(
            [-d for d in range(len(profile))]
        )
    with pytest.raises(ValueError, match="NF4 has no precision profile"):
        precision.profiles_of(["NF4"])


def test_a_histogram_counts_binades_below_the_largest():
    tensor = np.array([[4.0, -7.5, 3.0, 0.0], [1.0, -1.5, np.inf, 2**-30]], np.float32)
    figure = precision.histograms(
        {"t": tensor, "zero": np.zeros(3, np.float32)}, precision.profiles_of(["INT8"]), "why"
    )
    elements, energy = figure.axes[0].containers
    assert [bar.get_height() for bar in elements][:4] == pytest.approx([100 / 3, 100 / 6, 100 / 3, 0])
    squares = np.array([16 + 56.25, 9, 1 + 2.25])
    assert [bar.get_height() for bar in energy][:3] == pytest.approx(100 * squares / squares.sum())
    [steps] = figure.axes[2].patches
    assert steps.get_data().values.tolist() == [7, 6, 5, 4, 3, 2, 1]
    assert sum(bar.get_height() for bar in figure.axes[1].containers[0]) == 0


def search_table():
    rows = [
        ("BM25", "block E A AE", -1.5, -2.0, -1.0),
        ("profile:8:4,6x2,5x2,4x2,3,2,1", "synthesized A AE", -1.0, -1.5, 0.5),
        ("T8.6x2@1+FP134", "pair AE", -3.0, -4.0, -2.0),
        ("T8.6x2@1", "synthesized A, catalogue A", -0.5, -1.0, 0.0),
        ("FP134", "reference", 0.0, 0.0, 0.0),
        ("FP152", "known", np.nan, np.nan, np.nan),
    ]
    return pd.DataFrame(rows, columns=["name", "role", *(f"difference{end}_AE" for end in ("", "_low", "_high"))])


def test_synthesized_beside_standard_profiles():
    """The grid's rows are the profiles, the marks in the same rows the differences; pairs and what was not measured are
    left out."""
    cells, differences = precision.synthesized(search_table(), "AE", "net").axes
    grid = cells.images[0].get_array()
    names = ("BM25", "profile:8:4,6x2,5x2,4x2,3,2,1", "T8.6x2@1", "FP134")
    for line, (_, profile) in zip(grid, precision.profiles_of(names), strict=True):
        assert [int(bits) for bits in line[~np.isnan(line)]] == list(profile)
    assert [text.get_text() for text in cells.get_yticklabels()] == ["BM25", "made for A AE", "T8.6x2@1", "FP134"]
    assert len(cells.texts) == sum(len(profile) for _, profile in precision.profiles_of(names))
    made, known = (container.lines[0] for container in differences.containers)
    assert [*zip(made.get_xdata(), made.get_ydata(), strict=True)] == [(-1.0, 1)]
    assert [*zip(known.get_xdata(), known.get_ydata(), strict=True)] == [(-1.5, 0), (-0.5, 2), (0.0, 3)]
    assert differences.get_xlabel() == "angle of AE less that of FP134 (degrees)"
    with pytest.raises(ValueError, match="no format with one profile"):
        precision.synthesized(search_table().iloc[[2, 5]], "AE", "net")


def test_a_picture_holds_so_many_tensors():
    with pytest.raises(ValueError, match="13 tensors: a picture holds at most 12"):
        precision.histograms(
            {str(i): np.ones(2, np.float32) for i in range(13)}, precision.profiles_of(["INT8"]), "why"
        )
