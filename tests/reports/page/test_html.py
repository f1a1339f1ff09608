"""The page of a ranking: what it holds, and how it answers in a browser."""

import base64
import hashlib
import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import formats
from reports import results
from reports.page import html
from reports.page import ranking as sections
from reports.plots import style
from tests.processes import PATIENCE

RANKING = Path(__file__).parents[3] / "benchmarks" / "resnet20_ranking.csv"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tags(HTMLParser):
    """All tags, the data, and everything that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.fetched, self.data, self.inside = [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.fetched += [value for key, value in attrs.items() if key in ("src", "href")]
        self.inside = attrs.get("id")

    def handle_data(self, text):
        if self.inside == "data":
            self.data += text


def ranking(names=("FP134", "E4M3", "FP143+FP152", "mine</script>"), **more):
    rows = [
        {
            "rank": place,
            "name": name,
            "bits": 8,
            "family": "FP",
            "granularity": "tensor",
            "profile": "",
            "binades": None,
            "angle_AE": 10.0 + place,
        }
        for place, name in enumerate(names, start=1)
    ]
    return pd.DataFrame(rows).assign(low_AE=9.0, high_AE=[float("nan"), 20.0, 20.0, 20.0], source_AE="measured", **more)


def page_of(table, sidecar=None):
    return html.page([sections.section(table, sidecar or {}, "mine.csv")], ["mine.csv"], "mine.html")


def test_a_page_holds_what_it_needs_and_every_value():
    page = Tags(page_of(ranking(n_AE=2), {"settings": {"workload": "mine", "minibatches": 3, "command": "it"}}))
    assert page.fetched == []
    assert page.tags.count("script") == 3  # no name ends one
    data = json.loads(page.data)
    assert [row["name"] for row in data["rows"]] == ["FP134", "E4M3", "FP143+FP152", "mine</script>"]
    assert (data["rows"][0]["low"]["AE"], data["rows"][0]["n"]["AE"], data["minibatches"]) == (9, 2, 3)
    assert data["rows"][0]["high"]["AE"] is None
    [fp134], [e4m3], pair, unknown = (row["parts"] for row in data["rows"])
    assert fp134["profile"] == list(formats.get("FP134").profile)
    assert fp134["values"] == formats.get("FP134").magnitudes().tolist()[1:]
    assert max(e4m3["values"]) == 448  # the profile's next value is NaN
    assert [part["name"] for part in pair] == ["FP143", "FP152"]
    assert unknown == []


def test_what_a_ranking_is_held_against_stands_below_it():
    beside = {"name": "bf<16>", "bits": 16, "angle_AE": 0.5, "low_AE": 0.4, "high_AE": 0.6, "n_AE": 2, "gates": None}
    settings = {"workload": "mine", "minibatches": 2, "command": "it", "yardsticks": [beside]}
    page = page_of(ranking(n_AE=2), {"settings": settings})
    [below] = re.findall(r"<tfoot>\n(.*)\n</tfoot>", page, re.S)
    assert re.findall(r"<td[^>]*>([^<]*)</td>", below)[:3] == ["", "bf&lt;16&gt;", "0.500 [0.4, 0.6]"]
    assert [row["name"] for row in json.loads(Tags(page).data)["rows"]][-1] == "mine</script>"
    assert "<tfoot>" not in page_of(ranking(n_AE=2), {"settings": settings | {"yardsticks": []}})


def test_a_format_that_another_has_the_name_of_has_no_values_here():
    page = page_of(
        ranking(), {"settings": {"formats": {"FP134": "other", "E4M3": formats.get("E4M3").digest}, **SETTINGS}}
    )
    rows = json.loads(Tags(page).data)["rows"]
    assert (rows[0]["parts"], len(rows[1]["parts"])) == ([], 1)


SETTINGS = {
    "workload": "resnet20", "effects": ["E", "AE"], "by": "E", "minibatches": 4, "batch_size": 64, "exhaustive": True,
    "exact": ["conv 1", "fc"], "two_terms": False, "device": "cpu",
}  # fmt: skip


def test_the_command_that_makes_the_ranking_again():
    settings = {**SETTINGS, "formats": dict.fromkeys(("FP134", "profile:8:4x2,5"), "digest")}
    assert sections.command(settings, ["gates"], "r.csv") == (
        "formats rank --model resnet20 --formats FP134,profile:8:4x2,5 --effects E,AE --by E --minibatches 4 "
        "--batch-size 64 --exhaustive --exact 'conv 1' --exact fc --scheme current --one-term --cost --device cpu "
        "--output r.csv"
    )
    whole = sections.command({**SETTINGS, "formats": {entry.name: "" for entry in formats.catalogue()}}, [], "r.csv")
    assert "--formats" not in whole
    assert "--cost" not in whole
    assert "--scheme paper" in sections.command({**SETTINGS, "formats": {}, "scheme": "paper"}, [], "r.csv")
    assert sections.command({"command": "formats rank -m mine.py:net"}, [], "r.csv") == "formats rank -m mine.py:net"


def test_colours_are_those_of_the_other_plots():
    css = (Path(html.__file__).parent / "report.css").read_text()
    for bits, (colour, _) in style.STYLE.items():
        assert f"--bits{bits}: {colour};" in css


def test_a_file_without_angles_is_refused(tmp_path):
    results.write(ranking()[["rank", "name", "bits", "family", "profile"]], tmp_path / "r.csv", {})
    with pytest.raises(ValueError, match="has no angles"):
        html.write([tmp_path / "r.csv"], tmp_path / "r.html")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the package playwright is missing: no browser can be driven"
    )
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on the PATH: the page cannot be opened")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    html.write([RANKING], path)
    return path


@pytest.fixture
def opened(browser, report, request):
    """The page, open; at the end, nothing was complained of and nothing but the file was asked for."""
    context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}} | getattr(request, "param", {}))
    page, said, asked = context.new_page(), [], []
    page.set_default_timeout(1000 * PATIENCE)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asks: asked.append(asks.url))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    yield page
    context.close()
    assert said == []
    assert asked == [report.as_uri()]


def shown(page):
    return page.locator("#rows tr:not([hidden])").evaluate_all("rows => rows.map((row) => row.cells[1].textContent)")


def until(page, condition):
    """Waits for a condition; Playwright's own way is one that the page's policy forbids."""
    began = time.monotonic()
    while not page.evaluate(condition):
        assert time.monotonic() - began < PATIENCE, condition
        page.wait_for_timeout(100)


def bright(page, plot):
    """Names of the marks that a plot does not dim."""
    return page.evaluate(
        """(id) => [...document.querySelectorAll(`#${id} .mark[data-index]:not(.dim)`)]
            .map((mark) => rows[mark.dataset.index].name)""",
        plot,
    )


def test_table_and_plots_answer_to_each_other(opened, tmp_path):
    table = results.read(RANKING)
    for plot in ("effects", "ranks"):
        assert opened.locator(f"#{plot} .mark[data-index]").count() == len(table)
        ring = opened.locator(f"#{plot} .ring")
        first = opened.locator(f'#{plot} .mark[data-index="0"]').get_attribute("transform")
        assert f"translate({ring.get_attribute('cx')},{ring.get_attribute('cy')})" == first
    assert shown(opened) == table["name"].tolist()

    opened.get_by_role("button", name="angle A", exact=True).press("Enter")
    assert shown(opened) == table.sort_values("angle_A", kind="stable")["name"].tolist()
    opened.get_by_role("button", name="angle A", exact=True).click()
    assert shown(opened) == table.sort_values("angle_A", ascending=False, kind="stable")["name"].tolist()
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    opened.get_by_role("button", name="rank", exact=True).click()

    opened.locator("#bits").select_option("8")
    opened.locator("#search").fill("BM")
    wanted = table[(table["bits"] == 8) & (table["family"] == "BM")]["name"].tolist()
    assert shown(opened) == wanted
    assert opened.locator("#count").text_content() == f"{len(wanted)} of 498 formats"
    for plot in ("effects", "ranks"):
        assert sorted(bright(opened, plot)) == sorted(wanted)
    opened.get_by_role("button", name="show all").click()
    until(opened, "document.querySelectorAll('#rows tr[hidden]').length === 0")

    # A box over the lower left of a plot selects its rows.
    box = opened.locator("#effects").bounding_box()
    opened.mouse.move(box["x"] + 60, box["y"] + box["height"] - 48)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 0.36 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
    opened.mouse.up()
    until(opened, "document.querySelectorAll('#rows tr[hidden]').length > 0")
    chosen = shown(opened)
    assert 0 < len(chosen) < 100
    assert sorted(bright(opened, "ranks")) == sorted(chosen)
    rest = table[~table["name"].isin(chosen)]
    taken = table[table["name"].isin(chosen)]
    assert not ((rest["angle_A"] <= taken["angle_A"].max()) & (rest["angle_E"] <= taken["angle_E"].max())).any()
    opened.screenshot(path=tmp_path / "page.png")
    assert len(np.unique(np.asarray(Image.open(tmp_path / "page.png").convert("L")))) > 20
    opened.get_by_role("button", name="show all").click()
    until(opened, "document.querySelectorAll('#rows tr[hidden]').length === 0")

    # A mark that is clicked is looked at.
    opened.evaluate("scrollTo(0, 0)")
    until(opened, "scrollY === 0")
    mark = opened.locator('#ranks .mark[data-index="449"]').bounding_box()
    opened.mouse.click(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    name = opened.locator("#name").text_content()
    assert abs(table["name"].tolist().index(name) - 449) <= 1  # marks lie within half a pixel
    said = opened.locator("#ranks .said div").all_text_contents()
    assert said[0] == f"{name}, rank {table.set_index('name').loc[name, 'rank']}"
    assert opened.locator("#rows tr.looked td:nth-child(2)").text_content() == name
    facts = re.sub(r"\s+", " ", opened.locator("#facts").text_content())
    assert table.set_index("name").loc[name, "profile"] in facts


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}], indirect=True)
def test_the_keyboard_is_enough(opened):
    table = results.read(RANKING)
    opened.locator('#rows tr[tabindex="0"]').focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "Space", "ArrowDown", "Space", "Enter"):
        opened.keyboard.press(key)
    picked = table["name"].tolist()[1:3]
    assert opened.locator("#name").text_content() == picked[1]
    assert opened.locator('#rows tr[aria-selected="true"] td:nth-child(2)').all_text_contents() == picked
    assert sorted(bright(opened, "effects")) == sorted(picked)
    bars = opened.locator("#profile .bar title").all_text_contents()
    profile = formats.get(picked[1]).profile
    assert bars == [f"{bits} significant bits at T{-place or ''}" for place, bits in enumerate(profile)]
    listed = opened.locator("#values td:last-child").all_text_contents()
    values = sorted(float(value) for line in listed for value in line.split(", "))
    assert values == formats.get(picked[1]).magnitudes().tolist()[1:]
    fill = "getComputedStyle(document.querySelector('#ranks svg text')).fill"
    assert opened.evaluate(fill) == "rgb(230, 233, 237)"
    opened.emulate_media(color_scheme="light")
    assert opened.evaluate(fill) == "rgb(27, 31, 36)"


def test_plots_of_what_is_shown_alone(opened):
    """Their marks take the plot, and come back."""
    opened.locator("#search").fill("BM2")
    few = len(shown(opened))
    opened.locator("#zoom").check()
    kept = opened.locator("#effects .mark[data-index]").count()
    assert few <= kept < 250
    assert len(bright(opened, "effects")) == few
    opened.locator("#zoom").uncheck()
    assert opened.locator("#effects .mark[data-index]").count() == 498


@pytest.mark.parametrize("opened", [{"viewport": {"width": 390, "height": 800}}], indirect=True)
def test_a_phone_is_wide_enough(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
    # Rank, format and the angle that decides.
    right = opened.locator("#rows tr >> nth=0 >> td >> nth=2").bounding_box()
    assert right["x"] + right["width"] <= 390


def test_recipes_answer_to_each_other(browser, tmp_path):
    recipes = RANKING.parent / "recipes_transformer.csv"
    html.write([recipes], tmp_path / "recipes.html")
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "recipes.html").as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    table = results.read(recipes)
    for plot in ("plane", "lengths"):
        assert page.locator(f"#{plot} .mark[data-index]").count() == len(table)
    page.get_by_role("button", name="bias", exact=True).click()
    assert page.locator("#recipes td:nth-child(2)").all_text_contents() == table.sort_values("bias")["recipe"].tolist()
    page.locator("#recipes tr", has_text="mxfp6-e3m2").hover()
    assert page.locator("#plane .said div").first.text_content() == "mxfp6-e3m2"
    page.close()
    assert said == []


EVIL = "import pathlib; pathlib.Path('RAN').write_text(''); import formats; evil = formats.get('FP134')"


@pytest.mark.parametrize("name", ["evil.py", "evil.py:FP134", "FP134+evil.py", "evil.toml", "./evil.py"])
def test_a_ranking_is_data_and_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text(EVIL)
    Path("evil.toml").write_text("[FP134]\nbits = 4\nprofile = [2, 2, 1]\n")
    page = Tags(page_of(ranking((name, "FP134", "E4M3", "INT8"))))
    assert not Path("RAN").exists()
    parts = [entry["parts"] for entry in json.loads(page.data)["rows"]] if "rows" in json.loads(page.data) else None
    assert parts is None or (parts[0] == [] and parts[1] != [])


def test_a_column_is_no_html():
    evil = 'angle_x"><script>document.title="XSS"</script><b a="'
    table = ranking().assign(**{evil: 1.0, evil.replace("angle", "low"): 1.0, evil.replace("angle", "high"): 1.0})
    text = page_of(table)
    assert "XSS" not in text


def test_a_ranking_over_several_networks_has_its_angles():
    names = ("worst", "AE@mine.py:net")
    angles = {f"{part}_{name}": 1.0 for part in ("angle", "low", "high") for name in names}
    angles |= {f"source_{name}": "measured" for name in names}
    table = ranking().drop(columns=[name for name in ranking().columns if name.startswith("angle_")]).assign(**angles)
    page = page_of(table, {"settings": {"by": "worst"}})
    columns = re.findall(r'data-column="angle\.([^"]*)"', page)
    assert columns == ["worst", "AE@mine.py:net"]


def test_no_script_runs_but_the_pages_own():
    text = page_of(ranking())
    policy = re.search(r"script-src ([^;]*);", text)[1]
    assert "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy.split() == [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    ]


def test_it_opens_with_the_verdict_and_says_what_its_words_mean():
    table = ranking(gap=[0.0, 0.0, 0.1, 0.2], gap_low=0.0, gap_high=0.3, gates=881.2830000000001)
    table = table.rename(columns=lambda column: column.replace("_AE", "_E"))
    text = page_of(table, {"settings": {"by": "E", "minibatches": 4}})
    said = "FP134 turns the gradient least, by 11 degrees of E; 2 of 4 formats are expected to train as well as float32"
    assert f'<p class="verdict">{said}' in text
    assert "<dt>E</dt><dd>errors, the gradients of the loss with respect to activations, are rounded</dd>" in text
    assert "<dt>gap</dt><dd>by how much the final loss" in text
    assert "<dt>W</dt>" not in text
    assert {row["gates"] for row in json.loads(Tags(text).data)["rows"]} == {881}


def test_the_line_where_formats_stop_being_as_good_is_explained():
    table, said = (
        ranking(gap=[0.0, 0.0, 0.1, 0.2], gap_low=0.0, gap_high=0.3),
        "Dashed: where formats as good as float32",
    )
    text = page_of(table)
    assert "2 of 4 formats, up to an angle of AE of 12 degrees, the next has 13" in text
    assert text.count(f"{said} within 1% end.") == 2
    assert said not in page_of(table.assign(gap=0.0))
