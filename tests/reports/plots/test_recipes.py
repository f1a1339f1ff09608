"""Plots of recipes show the numbers of their table."""

import numpy as np
import pandas as pd
import pytest

from predictor.recipe_comparison.table import COLUMNS
from reports.plots import drawing, recipes


def row(recipe, angle, product="all", layer="all", part="everywhere", bias=0.1, kept=0.0, draws=1, interval=True):
    half = 0.1 * angle if interval else np.nan
    given = {"recipe": recipe, "product": product, "layer": layer, "part": part, "angle": angle, "kept": kept}
    given |= {"angle_of_mean": angle, "low_of_mean": angle - half, "high_of_mean": angle + half, "draws": draws}
    given |= {"bias": bias, "bias_low": bias - half / 20, "bias_high": bias + half / 20, "share": 0.8}
    given |= {"rank": 1, "projection": 1 - angle / 90}
    return given


def table(interval=True):
    rows = [
        row("bf16", 0.5, bias=-0.001, interval=interval),
        row("mxfp8", 11.0, bias=0.02, interval=interval),
        row("mxfp8", 4.0, layer="0:linear 1:linear", part="kept", kept=0.3, interval=interval),
        row("mxfp8", 7.0, layer="0:linear", part="kept", kept=0.1, interval=interval),
        row("mxfp8", 9.0, product="fprop", layer="0:linear", part="alone", interval=interval),
        row("mxfp8", 3.0, product="fprop", layer="1:linear", part="alone", interval=interval),
        row("mxfp8", 2.0, product="dgrad", layer="1:linear", part="alone", interval=interval),
        row("mxfp8", 1.0, product="wgrad", layer="0:linear", part="alone", interval=interval),
        row("mxfp8", 8.0, product="fprop", part="alone", interval=interval),
        row("nvfp4", 38.0, bias=0.3, draws=4, interval=interval),
        row("nvfp4", 20.0, layer="1:linear", part="kept", kept=0.2, interval=interval),
        row("nvfp4", 30.0, product="fprop", layer="0:linear", part="alone", interval=interval),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def points(container):
    return np.column_stack(container.lines[0].get_data()).tolist()


@pytest.mark.parametrize("interval", [True, False])
def test_recipes_in_the_plane(interval):
    axes, beside = recipes.plane(table(interval), "plane").axes
    drawn = {container.get_label(): points(container) for container in axes.containers}
    assert drawn["to nearest"] == [[11.0, 0.02]]
    assert drawn["with random numbers"] == [[38.0, 0.3]]
    # What is not above 0 has no place on the axis: below all others.
    assert drawn["to nearest, bias not above 0"] == [[0.5, 0.01]]
    line = next(each for each in axes.lines if each.get_label() == "bf16: 0.5°")
    assert set(line.get_xdata()) == {0.5}
    assert {text.get_text() for text in axes.texts} == {"bf16", "mxfp8", "nvfp4"}
    if interval:
        across = axes.containers[0].lines[2][0].get_segments()[0]
        assert across[:, 0].tolist() == pytest.approx([9.9, 12.1])
    # The projection of each, in the order of the table.
    rows = table(interval)
    rows = rows[(rows["product"] == "all") & (rows["part"] == "everywhere")]
    assert points(beside.containers[0]) == [[value, place] for place, value in enumerate(rows["projection"])]
    assert [text.get_text().split()[1] for text in beside.get_yticklabels()] == rows["recipe"].tolist()


def test_a_bias_that_is_not_known_has_no_number():
    found = table(False).assign(bias=np.nan)
    axes, _ = recipes.plane(found, "plane").axes
    drawn = {container.get_label(): points(container)[0][0] for container in axes.containers}
    assert drawn == {"to nearest, bias not known": 0.5, "with random numbers, bias not known": 38.0}
    assert len(axes.get_yticks()) == 0
    found.loc[found["recipe"] == "mxfp8", "bias"] = 0.02
    axes, _ = recipes.plane(found, "plane").axes
    drawn = {container.get_label(): points(container) for container in axes.containers}
    assert drawn["to nearest"] == [[11.0, 0.02]]
    assert drawn["to nearest, bias not known"] == [[0.5, 0.01]]
    assert len(axes.get_yticks())


def test_products_of_layers():
    figure = recipes.products(table(), "products")
    first, second = figure.axes
    assert [first.get_title(), second.get_title()] == ["mxfp8", "nvfp4"]
    np.testing.assert_array_equal(first.images[0].get_array().filled(-1), [[9, -1, 1], [3, 2, -1]])
    assert [text.get_text() for text in first.get_yticklabels()] == ["0:linear", "1:linear"]
    assert [text.get_text() for text in first.get_xticklabels()] == ["fprop", "dgrad", "wgrad"]
    assert [text.get_text() for text in first.texts] == ["9", "-", "1", "3", "2", "-"]


@pytest.mark.parametrize("interval", [True, False])
def test_what_is_kept_against_what_it_gains(interval):
    [axes] = recipes.kept(table(interval), "kept").axes
    drawn = {container.get_label(): points(container) for container in axes.containers}
    assert drawn == {"mxfp8": [[0, 11], [10, 7], [30, 4]], "nvfp4": [[0, 38], [20, 20]]}
    line = next(each for each in axes.lines if each.get_label() == "bf16: 0.5°")
    assert set(line.get_ydata()) == {0.5}


def test_they_are_drawn_from_a_file(tmp_path):
    path = tmp_path / "r.csv"
    table().to_csv(path, index=False)
    for kind, title in (
        (drawing.Kind.RECIPES, "r: what recipes do to the gradient"),
        (drawing.Kind.KEPT, "r: what is kept and what it gains"),
    ):
        assert drawing.draw([path], kind).axes[0].get_title() == title
    assert drawing.draw([path], drawing.Kind.PRODUCTS).get_suptitle() == "r: angle by product of a layer"
    whole = table()[:2]
    whole.to_csv(path, index=False)
    for kind, match in ((drawing.Kind.PRODUCTS, "--by both"), (drawing.Kind.KEPT, "--keep 5%,15%")):
        with pytest.raises(ValueError, match=match):
            drawing.draw([path], kind)
    whole[:0].to_csv(path, index=False)
    with pytest.raises(ValueError, match="no recipe"):
        recipes.plane(whole[:0], "none")
    whole.drop(columns="bias").to_csv(path, index=False)
    with pytest.raises(ValueError, match="bias"):
        drawing.draw([path], drawing.Kind.RECIPES)


def test_the_picture_that_is_drawn_where_none_is_named(tmp_path):
    whole = table()
    for rows, kind in (
        (whole, "kept"),
        (whole[whole["part"] != "kept"], "products"),
        (whole[whole["part"] == "everywhere"], "recipes"),
        (whole[(whole["layer"] == "all")], "recipes"),
    ):
        rows.to_csv(tmp_path / "found.csv", index=False)
        assert drawing.kind_of([tmp_path / "found.csv"], None, []) == kind
