"""The first of a ranking, and the front of angle and gates."""

import numpy as np
import pandas as pd
import pytest

from reports.plots import rankings


def ranked():
    table = pd.DataFrame(
        {"rank": [1, 2, 2, 4], "name": list("PQRS"), "bits": [8, 8, 7, 6], "angle_AE": [1.0, 2.0, 3.0, 4.0]}
    )
    return table.assign(
        low_AE=[0.5, 1.5, 2.5, np.nan], high_AE=[2.0, 3.0, 4.0, np.nan], source_AE=["measured"] * 3 + ["predicted"]
    )


def test_the_first_few_with_intervals_and_ties():
    [axes] = rankings.top(ranked(), "AE", 4, "net").axes
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
    [axes] = rankings.top(searched, "AE", 4, "net").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["synthesized", "reference", "catalogue"]


def test_the_front_of_angle_and_gates():
    [axes] = rankings.pareto_front(ranked().assign(gates=[40.0, 30.0, 35.0, np.nan]), "AE", "net").axes
    [front] = axes.lines
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == [(30, 2), (40, 1)]
    assert {text.get_text() for text in axes.texts} == {"P", "Q"}


def test_names_hide_no_mark_that_they_can_help_hiding():
    """Beside a mark there is another one where the name would stand first."""
    table = ranked().assign(gates=[40.0, 30.0, 35.0, 30.1])
    alone, crowded = (
        rankings.pareto_front(rows, "AE", "net").axes[0]
        for rows in (table.head(3), table.assign(angle_AE=[1.0, 2.0, 3.0, 2.03]))
    )
    [first], [second] = ([text for text in axes.texts if text.get_text() == "Q"] for axes in (alone, crowded))
    assert first.get_position() != second.get_position()
    crowded.figure.canvas.draw()
    mark = crowded.transData.transform((30.1, 2.03))
    boxes = [text.get_bbox_patch().get_window_extent() for text in crowded.texts]
    assert len(boxes) == 2
    assert not any(box.contains(*mark) for box in boxes)
