"""The first of a ranking, and the front of angle and gates."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from reports.plots import rankings


def ranked():
    table = pd.DataFrame(
        {"rank": [1, 2, 2, 4], "name": list("PQRS"), "bits": [8, 8, 7, 6], "angle_AE": [1.0, 2.0, 3.0, 4.0]}
    )
    return table.assign(
        low_AE=[0.5, 1.5, 2.5, np.nan], high_AE=[2.0, 3.0, 4.0, np.nan], source_AE=["measured"] * 3 + ["predicted"]
    )


def test_the_first_few_with_intervals_and_ties():
    [axes] = rankings.top(ranked(), "AE", 4, "net", 0.01).axes
    marks = [line for line in axes.lines if line.get_marker() in "os^" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in marks] == [1, 2, 3, 4]
    assert [line.get_markerfacecolor() == (1, 1, 1) for line in marks] == [False, False, False, True]
    assert [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2] == [
        [0.5, 2],
        [1.5, 3],
        [2.5, 4],
    ]
    [band] = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.55, 2.45))
    searched = ranked().assign(role=["synthesized E", "reference", "synthesized AE, pair AE", "catalogue A"])
    [axes] = rankings.top(searched, "AE", 4, "net", 0.01).axes
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["synthesized", "reference", "catalogue", "measured", "predicted"]


def test_what_was_measured_in_part_is_told_from_both():
    """A ranking over 4 mini-batches: P on all of them, Q on 2, R on all of A's, S predicted."""
    table = ranked().rename(columns=lambda column: column.replace("_AE", "_E"))
    table = table.assign(
        angle_A=1.0, low_A=np.nan, high_A=np.nan, source_A="measured", family="FP", gates=[4.0, 3, 2, 1]
    )
    table = table.assign(n_E=[4, 2, 4, 0], n_A=[4, 4, 2, 4])
    blue, orange = to_rgb("#0072B2"), to_rgb("#E69F00")

    def pale(colour):
        return tuple(1 - 0.35 * (1 - part) for part in colour)

    [axes] = rankings.top(table, "E", 4, "net", 0.01, 4).axes
    inside = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() in "os^" and len(line.get_xdata())]
    assert inside == [pytest.approx(colour) for colour in (blue, pale(blue), orange, (1, 1, 1))]
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["8 bits", "7 bits", "6 bits", "measured", "partly measured", "predicted"]
    # Where both effects are drawn, what is known less of counts: Q by E, R by A.
    for figure, third in (
        (rankings.error_against_activation(table, "net", minibatches=4), pale(orange)),
        (rankings.pareto_front(table, "E", "net", 0.01, minibatches=4), orange),
    ):
        drawn = {
            tuple(marks.get_offsets()[0]): tuple(marks.get_facecolor()[0][:3])
            for marks in figure.axes[0].collections
            if len(marks.get_offsets()) and len(marks.get_facecolor())
        }
        by_angle = {point[1]: colour for point, colour in drawn.items()}
        assert by_angle[1.0] == pytest.approx(blue)
        assert by_angle[2.0] == pytest.approx(pale(blue))
        assert by_angle[3.0] == pytest.approx(third)
        assert by_angle[4.0] == (1, 1, 1)
    [axes] = rankings.bars(table, ["E"], "net", minibatches=4).axes
    colours = [bar.get_facecolor()[:3] for bar in axes.patches]
    assert colours == [pytest.approx(colour) for colour in (blue, pale(blue), blue, (1, 1, 1))]
    # Without the ranking's settings nobody can tell.
    [axes] = rankings.top(table.head(3), "E", 3, "net", 0.01).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["8 bits", "7 bits"]


def test_the_front_of_angle_and_gates(monkeypatch):
    table = ranked().assign(
        gates=[40.0, 30.0, 35.0, np.nan], source_AE=["measured", "measured", "predicted", "predicted"]
    )
    [axes] = rankings.pareto_front(table, "AE", "net", 0.01).axes
    [front] = [line for line in axes.lines if len(line.get_xdata())]
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == [(30, 2), (40, 1)]
    assert [text.get_text() for text in axes.get_legend().get_texts()][:4] == [
        *("8 bits", "7 bits"),
        *("measured", "predicted"),
    ]
    # Of few formats each has its name, of many those on the front, and those that are asked for.
    assert {text.get_text() for text in axes.texts} == {"P", "Q", "R"}
    monkeypatch.setattr(rankings, "ALL_NAMED", 0)
    for named, expected in (((), {"P", "Q"}), (("R",), {"P", "Q", "R"})):
        [axes] = rankings.pareto_front(ranked().assign(gates=[40.0, 30.0, 35.0, np.nan]), "AE", "", 1, named).axes
        assert {text.get_text() for text in axes.texts} == expected


def test_rings_are_around_what_is_not_told_from_the_front():
    # Q, of rank 2, is on the line; R, of rank 2 too, is not told from it, nor P, which is first, from anything.
    table = ranked().assign(gates=[40.0, 30.0, 35.0, np.nan])
    [axes] = rankings.pareto_front(table, "AE", "net", 0.01).axes
    [rings] = [marks for marks in axes.collections if marks.get_label().startswith("not told apart")]
    assert rings.get_offsets().tolist() == [[35, 3]]
    [axes] = rankings.pareto_front(table.assign(rank=[1, 2, 3, 4]), "AE", "net", 0.01).axes
    assert not [marks for marks in axes.collections if marks.get_label().startswith("not told apart")]


def test_names_hide_no_mark_that_they_can_help_hiding(monkeypatch):
    """Beside a mark there is another one where the name would stand first."""
    monkeypatch.setattr(rankings, "ALL_NAMED", 0)
    table = ranked().assign(gates=[40.0, 30.0, 35.0, 30.1])
    alone, crowded = (
        rankings.pareto_front(rows, "AE", "net", 0.01).axes[0]
        for rows in (table.head(3), table.assign(angle_AE=[1.0, 2.0, 3.0, 2.03]))
    )
    [first], [second] = ([text for text in axes.texts if text.get_text() == "Q"] for axes in (alone, crowded))
    assert first.get_position() != second.get_position()
    crowded.figure.canvas.draw()
    mark = crowded.transData.transform((30.1, 2.03))
    boxes = [text.get_bbox_patch().get_window_extent() for text in crowded.texts]
    assert len(boxes) == 2
    assert not any(box.contains(*mark) for box in boxes)


def test_a_line_ends_those_as_good_as_float32():
    table = ranked().assign(gap=[0.0, 0.02, 0.03, 0.5], gates=[4.0, 3.0, 2.0, 1.0])

    def lines(axes):
        return [line for line in axes.lines if str(line.get_label()).startswith("as good as float32")]

    # Between 2 and 3 degrees for 2%, between 3 and 4 for 5%.
    for within, angle, text in (
        (0.02, 6**0.5, "2%: up to 2 degrees of AE, the next 3"),
        (0.05, 12**0.5, "5%: up to 3 degrees of AE, the next 4"),
    ):
        [up] = lines(rankings.top(table, "AE", 4, "net", within).axes[0])
        assert up.get_xdata() == pytest.approx([angle] * 2)
        assert up.get_label() == f"as good as float32 within {text}"
        [across] = lines(rankings.pareto_front(table, "AE", "net", within).axes[0])
        assert across.get_ydata() == pytest.approx([angle] * 2)
    # Nothing is drawn where all or none are so, nor over an angle that does not tell the gaps.
    assert not lines(rankings.top(table, "AE", 4, "net", 0.9).axes[0])
    both = table.assign(**{f"{kind}_E": table[f"{kind}_AE"] for kind in ("low", "high", "source")})
    assert not lines(rankings.top(both.assign(angle_E=[2.0, 1.0, 3.0, 4.0]), "E", 4, "net", 0.01).axes[0])


def test_bars_of_few_formats_beside_what_they_are_held_against():
    beside = [{"name": "bfloat16", "angle_AE": 0.2, "low_AE": None, "high_AE": None}]
    table = ranked().assign(angle_E=[0.1, 0.2, 0.3, 0.4], low_E=np.nan, high_E=np.nan)
    [axes] = rankings.bars(table, ["E", "AE"], "net", beside).axes
    # Bars begin at 0, and have their numbers.
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)
    assert [text.get_text() for text in axes.texts][4:] == ["1", "2", "3", "4", "0.2"]
    heights = [[bar.get_height() for bar in group] for group in axes.containers if len(group.get_children()) == 5]
    assert heights[0][:4] == [0.1, 0.2, 0.3, 0.4]
    assert np.isnan(heights[0][4])  # of which there is no angle of E
    assert heights[1] == [1, 2, 3, 4, 0.2]
    assert [label.get_text() for label in axes.get_xticklabels()] == [*"PQRS", "bfloat16"]
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["E", "AE", "measured", "predicted"]


def test_formats_it_is_held_against_and_chosen_names_are_in_the_picture():
    table = ranked().rename(columns=lambda column: column.replace("_AE", "_E")).assign(family="tapered")
    table = table.assign(angle_A=[4.0, 3.0, 2.0, 1.0], source_A="measured")
    beside = [{"name": "bfloat16", "angle_E": 0.2, "angle_A": 0.3}]
    [axes] = rankings.error_against_activation(table, "net", ["S"], beside).axes
    assert {text.get_text() for text in axes.texts} == {*"PQRS", "bfloat16"}
    assert "held against: bfloat16" in [text.get_text() for text in axes.get_legend().get_texts()]
