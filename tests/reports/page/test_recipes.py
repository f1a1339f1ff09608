"""The page of recipes: its verdict, table, planes, products of layers, and what is kept."""

import json
import re
from html import escape
from pathlib import Path

import pytest

from reports import results
from reports.page import html

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RECIPES, LAYERS = BENCHMARKS / "recipes_transformer.csv", BENCHMARKS / "recipes_transformer_layers.csv"


def page_of(*files, folder):
    html.write(files, folder / "page.html")
    return (folder / "page.html").read_text()


def data_of(page):
    return json.loads(re.search(r'id="recipes-data">(.*?)</script>', page)[1])


def test_all_recipes_are_there_beside_the_baseline(tmp_path):
    page, table = page_of(RECIPES, folder=tmp_path), results.read(RECIPES)
    said = "lee-fp134 keeps the gradient's length along itself best, 0.9991, and turns it by 5.04 degrees (bf16: 1.0000"
    assert f'<p class="verdict">{escape(said)}' in page
    marks = data_of(page)["marks"]
    assert [(mark["name"], mark["angle"], mark["bias"]) for mark in marks] == list(
        zip(table["recipe"], table["angle_of_mean"], table["bias"], strict=True)
    )
    assert [mark["name"] for mark in marks if mark["random"]] == ["nvfp4", "nvfp4-2d-sr"]
    [anchor] = re.findall(r'<tr data-row="\d+" class="anchor">.*?</tr>', page)
    assert "bf16" in anchor
    assert "Where it comes from" not in page
    assert len(page) < 100_000


def test_products_of_layers_and_what_is_kept(tmp_path):
    page, table = page_of(LAYERS, folder=tmp_path), results.read(LAYERS)
    alone = table[(table["recipe"] == "mxfp4") & (table["part"] == "alone")]
    heat = re.search(r"<h3>mxfp4</h3>.*?</table>", page, re.DOTALL)[0]
    cells = re.findall(r'<td style="--heat: (\d+)%">([\d.]+)</td>', heat)
    assert sorted(float(angle) for _, angle in cells) == sorted(
        float(f"{angle:.3g}") for angle in alone["angle_of_mean"]
    )
    assert max(int(share) for share, _ in cells) == 100
    row = table[(table["part"] == "kept") & (table["recipe"] == "mxfp8")].iloc[-1]
    assert f">{100 * row['kept']:.1f}%</td>" in page
    assert row["layer"].replace(" ", ", ") in page


def test_one_page_of_both_and_none_of_two_alike(tmp_path):
    page = page_of(BENCHMARKS / "resnet18_ranking.csv", RECIPES, folder=tmp_path)
    assert re.findall(r"<h1>(.*?)</h1>", page) == ["resnet18: 498 number formats", "transformer: 18 recipes"]
    assert len(page) < 1_500_000
    assert "formats report resnet18_ranking.csv recipes_transformer.csv --html page.html" in page
    with pytest.raises(ValueError, match="one ranking and one table of recipes"):
        page_of(RECIPES, LAYERS, folder=tmp_path)
    results.write(results.read(RECIPES).drop(columns="bias"), tmp_path / "less.csv", {})
    with pytest.raises(ValueError, match="has no column 'bias'"):
        page_of(tmp_path / "less.csv", folder=tmp_path)


def test_a_name_is_no_html(tmp_path):
    table = results.read(RECIPES)
    table.loc[1, "recipe"] = "</script><script>alert(1)</script>"
    results.write(table, tmp_path / "evil.csv", {})
    page = page_of(tmp_path / "evil.csv", folder=tmp_path)
    assert "<script>alert" not in page
    assert data_of(page)["marks"][1]["name"] == "</script><script>alert(1)</script>"
