"""Plots of attributions and of training runs: bars, lines, colours and marks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors, image

from predictor.attribution import COLUMNS
from reports import plots

ROOT = Path(__file__).parents[2]


def attribution(layers=40, interval=True):
    half = 0.5 if interval else np.nan
    rows = [("WAEG", "all", 9.0, 9 - half, 9 + half, np.nan, np.nan, np.nan, np.nan, 2)]
    rows += [
        (k, "all", a, a - half, a + half, 9 - a / 2, 9 - a / 2 - half, 9 - a / 2 + half, 0.25, 2)
        for k, a in zip("WAEG", (5.0, 7.0, 1.0, 0.3), strict=True)
    ]
    rows += [
        ("WAEG"[i % 4], f"layer{i}", a := 1 + (7 * i % 40) / 10, a - half, a + half, 9.0, 9 - half, 9 + half, 1 / 40, 2)
        for i in range(layers)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize("interval", [True, False])
def test_the_largest_layers_coloured_by_kind(interval):
    table = attribution(interval=interval)
    figure = plots.attribution(table, "what causes it")
    above, below = figure.axes
    assert [bar.get_width() for bar in above.patches] == [9, 5, 7, 1, pytest.approx(0.3)]
    assert [text.get_text() for text in above.get_yticklabels()] == [
        "everything", "W, weights", "A, activations", "E, errors", "G, weight gradients",
    ]  # fmt: skip
    largest = table[table.layer != "all"].sort_values("angle_alone", ascending=False).head(24)
    assert [bar.get_width() for bar in below.patches] == list(largest.angle_alone)
    for bar, label, (_, row) in zip(below.patches, below.get_yticklabels(), largest.iterrows(), strict=True):
        assert label.get_text().split() == [row.layer, row.kind]
        assert colors.same_color(bar.get_facecolor(), plots.KINDS[row.kind][0])
    # The first on top.
    assert below.get_ylim()[0] > below.get_ylim()[1]
    marks = next(line for line in above.lines if line.get_marker() == "D")
    assert list(marks.get_xdata())[1:] == [6.5, 5.5, 8.5, pytest.approx(8.85)]
    assert above.get_title() == "what causes it"


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_table_cut_short_is_drawn_too(tmp_path, ending):
    for number, table in enumerate((attribution(0), attribution(3), attribution().head(1))):
        path = tmp_path / f"{number}.{ending}"
        plots.save(plots.attribution(table, "part"), path)
        if ending == "png":
            assert image.imread(path).shape[1] == 1200
        elif ending == "svg":
            assert path.read_text().rstrip().endswith("</svg>")
        else:
            assert path.read_bytes().startswith(b"%PDF-")


def run_of(number, rates, setting="LOG4", rounding="nearest"):
    return pd.DataFrame(
        {"step": range(1, len(rates) + 1), "flip_rate": rates, "setting": setting, "rounding": rounding, "run": number}
    )


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_seeds_are_drawn_as_mean_and_range():
    """A hundred steps are smoothed over two; the second seed ended early."""
    one, two = np.linspace(0.1, 0.2, 100), np.linspace(0.3, 0.4, 60)
    figure = plots.flips(
        pd.concat([run_of(0, one), run_of(1, two), run_of(2, one / 2, rounding="hysteresis")]), "flips"
    )
    [axes] = figure.axes
    lines = lines_of(axes)
    assert list(lines) == ["LOG4, nearest (2 runs)", "LOG4, hysteresis"]
    mean, alone = lines.values()

    def smoothed(rates):
        return np.array([rates[max(0, i - 1) : i + 1].mean() for i in range(len(rates))])

    assert mean.get_ydata()[:60] == pytest.approx((smoothed(one)[:60] + smoothed(two)) / 2)
    assert mean.get_ydata()[60:] == pytest.approx(smoothed(one)[60:])
    assert alone.get_ydata() == pytest.approx(smoothed(one) / 2)
    [band] = axes.collections
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(smoothed(two)[-1])
    assert band.get_paths()[0].get_extents().ymin == pytest.approx(smoothed(one)[0])
    # Every step of every run is a point.
    assert [len(line.get_xdata()) for line in axes.lines if line.get_marker() == "."] == [100, 100, 100]
    assert (mean.get_linestyle(), alone.get_linestyle()) == ("--", "-")
    assert mean.get_color() != alone.get_color()
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_logarithmic_axis_for_rates_that_fall_far(tmp_path, ending):
    """Rates of zero lie below the axis; a run without any flip is no reason for one."""
    falling = np.concatenate([np.logspace(-1, -4, 50), np.zeros(10)])
    figure = plots.flips(pd.concat([run_of(0, falling), run_of(1, np.full(60, 0.1), "FP134")]), "flips")
    [axes] = figure.axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == pytest.approx((5e-5, 0.2))
    plots.save(figure, tmp_path / f"flips.{ending}")
    assert (tmp_path / f"flips.{ending}").stat().st_size > 1000
    figure = plots.flips(run_of(0, np.zeros(5)), "none")
    assert figure.axes[0].get_yscale() == "linear"
    plots.save(figure, tmp_path / f"none.{ending}")


def test_profiles_are_bars_over_the_same_binades():
    given = plots.profiles_of(["FP134", "e4m3", "profile:8:4x2,5"])
    assert [name for name, _ in given][:2] == ["FP134", "E4M3"]
    figure = plots.profiles(given, "profiles")
    for axes, (name, profile) in zip(figure.axes, given, strict=True):
        assert axes.get_title(loc="left") == name
        assert tuple(bar.get_height() for bar in axes.patches) == profile
        assert [bar.get_x() + bar.get_width() / 2 for bar in axes.patches] == pytest.approx(
            [-d for d in range(len(profile))]
        )
    with pytest.raises(ValueError, match="NF4 has no precision profile"):
        plots.profiles_of(["NF4"])


def test_a_histogram_counts_binades_below_the_largest():
    tensor = np.array([[4.0, -7.5, 3.0, 0.0], [1.0, -1.5, np.inf, 2**-30]], np.float32)
    figure = plots.histograms({"t": tensor, "zero": np.zeros(3, np.float32)}, plots.profiles_of(["INT8"]), "why")
    elements, energy = figure.axes[0].containers
    assert [bar.get_height() for bar in elements][:4] == pytest.approx([100 / 3, 100 / 6, 100 / 3, 0])
    squares = np.array([16 + 56.25, 9, 1 + 2.25])
    assert [bar.get_height() for bar in energy][:3] == pytest.approx(100 * squares / squares.sum())
    [steps] = figure.axes[2].patches
    assert steps.get_data().values.tolist() == [7, 6, 5, 4, 3, 2, 1]
    assert sum(bar.get_height() for bar in figure.axes[1].containers[0]) == 0


def test_layers_of_an_attribution_and_of_a_measurement():
    [drawn] = plots.layers(attribution(8), "why").axes[0].images
    grid = drawn.get_array()
    assert grid.shape == (8, 4)
    assert [grid[0, 0], grid[1, 1], grid[4, 0]] == pytest.approx([1.0, 1.7, 3.8])
    rows = [(f, "AE", s, a) for f, a in (("FP134", 2.0), ("INT8", 3.0)) for s in ("b", "a", "all")]
    figure = plots.layers(pd.DataFrame(rows, columns=["format", "effect", "scope", "angle"]), "layers")
    assert figure.axes[0].images[0].get_array().tolist() == [[2, 3], [2, 3]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["b", "a"]
    with pytest.raises(ValueError, match="--scope layers"):
        plots.layers(pd.DataFrame({"format": ["FP134"], "effect": ["E"], "scope": ["all"], "angle": [1.0]}), "none")
    with pytest.raises(ValueError, match="formats attribute"):
        plots.layers(pd.DataFrame({"name": []}), "none")


def ranked():
    table = pd.DataFrame(
        {"rank": [1, 2, 2, 4], "name": list("PQRS"), "bits": [8, 8, 7, 6], "angle_AE": [1.0, 2.0, 3.0, 4.0]}
    )
    return table.assign(
        low_AE=[0.5, 1.5, 2.5, np.nan], high_AE=[2.0, 3.0, 4.0, np.nan], source_AE=["measured"] * 3 + ["predicted"]
    )


def test_the_first_few_with_intervals_and_ties():
    [axes] = plots.top(ranked(), "AE", 4, "net").axes
    marks = [line for line in axes.lines if line.get_marker() in "os^"]
    assert [line.get_xdata()[0] for line in marks] == [1, 2, 3, 4]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False, False, False, True]
    assert [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2] == [
        [0.5, 2],
        [1.5, 3],
        [2.5, 4],
    ]
    [band] = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.55, 2.45))
    searched = ranked().assign(role=["synthesized E", "reference", "synthesized AE, pair AE", "catalogue A"])
    [axes] = plots.top(searched, "AE", 4, "net").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["synthesized", "reference", "catalogue"]


def test_the_front_of_angle_and_gates():
    [axes] = plots.pareto_front(ranked().assign(gates=[40.0, 30.0, 35.0, np.nan]), "AE", "net").axes
    [front] = axes.lines
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == [(30, 2), (40, 1)]
    assert {text.get_text() for text in axes.texts} == {"P", "Q"}


def test_names_hide_no_mark_that_they_can_help_hiding():
    """Beside a mark there is another one where the name would stand first."""
    table = ranked().assign(gates=[40.0, 30.0, 35.0, 30.1])
    alone, crowded = (
        plots.pareto_front(rows, "AE", "net").axes[0]
        for rows in (table.head(3), table.assign(angle_AE=[1.0, 2.0, 3.0, 2.03]))
    )
    [first], [second] = ([text for text in axes.texts if text.get_text() == "Q"] for axes in (alone, crowded))
    assert first.get_position() != second.get_position()
    crowded.figure.canvas.draw()
    mark = crowded.transData.transform((30.1, 2.03))
    boxes = [text.get_bbox_patch().get_window_extent() for text in crowded.texts]
    assert len(boxes) == 2
    assert not any(box.contains(*mark) for box in boxes)


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
    cells, differences = plots.synthesized(search_table(), "AE", "net").axes
    grid = cells.images[0].get_array()
    names = ("BM25", "profile:8:4,6x2,5x2,4x2,3,2,1", "T8.6x2@1", "FP134")
    for line, (_, profile) in zip(grid, plots.profiles_of(names), strict=True):
        assert [int(bits) for bits in line[~np.isnan(line)]] == list(profile)
    assert [text.get_text() for text in cells.get_yticklabels()] == ["BM25", "made for A AE", "T8.6x2@1", "FP134"]
    assert len(cells.texts) == sum(len(profile) for _, profile in plots.profiles_of(names))
    made, known = (container.lines[0] for container in differences.containers)
    assert [*zip(made.get_xdata(), made.get_ydata(), strict=True)] == [(-1.0, 1), (-0.5, 2)]
    assert [*zip(known.get_xdata(), known.get_ydata(), strict=True)] == [(-1.5, 0), (0.0, 3)]
    assert differences.get_xlabel() == "angle of AE less that of FP134 (degrees)"
    with pytest.raises(ValueError, match="no format with one profile"):
        plots.synthesized(search_table().iloc[[2, 5]], "AE", "net")


def test_a_picture_holds_so_many_tensors():
    with pytest.raises(ValueError, match="13 tensors: a picture holds at most 12"):
        plots.histograms({str(i): np.ones(2, np.float32) for i in range(13)}, plots.profiles_of(["INT8"]), "why")


def test_final_loss_against_angle():
    runs = pd.read_csv(ROOT / "benchmarks" / "validation_resnet20.csv")
    [axes] = plots.loss_against_angle(runs.assign(loss=runs.loss.where(runs.name != "BM25", np.inf)), "net").axes
    marks = sorted((x, y) for container in axes.containers for x, y in zip(*container.lines[0].get_data(), strict=True))
    means = runs[runs.name != "BM25"].groupby("name").agg(angle=("angle", "first"), loss=("loss", "mean"))
    assert np.array(marks) == pytest.approx(np.array(sorted(zip(means.angle, means.loss, strict=True))))
    [crosses] = axes.collections[-1:]
    assert crosses.get_label() == "diverged"
    assert crosses.get_offsets()[:, 0].tolist() == pytest.approx([runs[runs.name == "BM25"].angle.iloc[0]])


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
    assert plots.kind_of([tmp_path / name for name in given], kind, names) == meant


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
            "kind 'pie': allowed are angles, top, pareto, layers, synthesized, validation, flips, histograms, profiles",
        ),
        (["t.npz"], None, [], "--profiles are drawn alone, or over tensors"),
        (["r.csv"], None, ["INT8"], "--profiles are drawn alone, or over tensors"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, given, kind, names, message):
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=message):
        plots.kind_of([tmp_path / name for name in given], kind, names)
