"""The documentation: its pages' commands and Python run, it is built without a warning, and its pages fetch nothing."""

import importlib.util
import json
import re

import pytest
from PIL import Image

from reports.plots import drawing
from tests.documents import ROOT, agrees, blocks, check_page
from tests.processes import python

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WITH_BLOCKS = [
    page for page in PAGES if any(block.language in ("sh", "python") for block in blocks((DOCS / page).read_text()))
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that looks to commands like the root of the repository, and that they may write to."""
    for name in ("benchmarks", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_what_a_page_says_runs(root, page):
    check_page((DOCS / page).read_text(), page, root)


def test_blocks_of_a_page():
    page = (
        'a\n\n<!-- tested with: --top 3 -->\n```sh\nformats list  # all\n\nformats rank -o "x y"\n```\n\n'
        "```text\n1\n...\n9\n```\n\nb\n\n```text\n2\n```\n"
    )
    commands, text = blocks(page)
    assert commands.commands == [["formats", "list", "--top", "3"], ["formats", "rank", "-o", "x y", "--top", "3"]]
    assert (commands.run, commands.compared, commands.output, text.text) == (True, False, "1\n...\n9\n", "2\n")
    assert agrees("\n1  \n5\n7\n9\n", commands.output)
    assert not agrees("1\n5\n8\n", commands.output)
    assert not blocks("<!-- not run: long -->\n```sh\nmake\n```\n")[0].run
    with pytest.raises(ValueError, match="remark 'quick'"):
        blocks("<!-- quick -->\n```sh\nmake\n```\n")


@pytest.mark.slow
def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path):
    build = ("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site")
    python(*build, NO_MKDOCS_2_WARNING=1)
    for page in PAGES:
        html = (tmp_path / "site" / page).with_suffix(".html").read_text()
        assert str(ROOT) not in html, page
        fetched = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\" >]+)|<link[^>]* href=\"?([^\" >]+)", html)
        assert fetched
        assert not [address for found in fetched for address in found if re.match(r"(?:https?:)?//", address)], page
        scripts = re.findall(r'<script src="?(?:\.\./)*([^" >]+)', html)
        assert scripts.index("search/worker.js") == 0, page  # before the theme asks for a worker
    # What the search needs where a page is a file: the index as a script, and the theme's worker in memory.
    search = tmp_path / "site" / "search"
    index = (search / "search_index.js").read_text().removeprefix("var __index = ")
    assert {entry["title"] for entry in json.loads(index)["docs"]} > {"Ten words", "Which recipe?"}
    (worker,) = (tmp_path / "site").glob("assets/javascripts/workers/*.js")
    (source,) = re.findall(r"^  const source = (.*)$", (search / "worker.js").read_text(), re.M)
    assert json.loads(source) == worker.read_text()


def test_what_a_search_printed_is_drawn():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    table = gallery.searched(ROOT / "benchmarks" / "search_resnet20.txt").set_index("name")
    assert len(table) == 16
    assert table.loc["BM25"].tolist() == ["block E A AE", -1.135, pytest.approx(-2.194), pytest.approx(-0.076)]
    assert table.loc["T8.5x6@1"].role == "catalogue E AE"
    assert table.loc["FP134"].tolist() == ["reference", 0, 0, 0]


def test_every_kind_has_a_small_picture():
    pictures = sorted((DOCS / "images").iterdir())
    assert {path.stem for path in pictures} == {*drawing.Kind, "attribution", "report"}
    page = (DOCS / "concepts" / "pictures.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == set(drawing.Kind)
    for path in pictures:
        assert path.stat().st_size < 300_000, path
        with Image.open(path) as picture:
            assert picture.format == "PNG"


def test_sections_that_the_code_names_exist():
    """Docstrings cite pages as `docs/definitions/formats.md section 3`; one that no page has says nothing."""
    folders = ("formats", "workloads", "predictor", "search", "training", "reports", "commands", "benchmarks", "tests")
    cited: dict[str, set[str]] = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for page, numbers in re.findall(
            r"docs/(\w+/\w+\.md)(?:,?\s+sections?\s+(\d+(?:(?:,|\s+and|\s+to)\s+\d+)*))?", path.read_text()
        ):
            cited.setdefault(page, set()).update(re.findall(r"\d+", numbers))
    assert len(cited) > 4
    for page, numbers in cited.items():
        assert numbers <= set(re.findall(r"^## (\d+)\. ", (DOCS / page).read_text(), re.M)), page


def test_what_pages_name_in_the_repository_exists():
    """The map, and the scripts and raw output that results rest on."""
    own = {entry.name for entry in ROOT.iterdir()} - {"runs"}  # which are not kept
    for page in ["contributing.md", *(page for page in PAGES if page.startswith("results/"))]:
        text = (DOCS / page).read_text()
        for path in re.findall(r"(?:[a-z_]+/)+(?:[\w.]+\.(?:py|txt|csv|parquet|md))?", text):
            if path.split("/")[0] in own and "NAME" not in path:
                assert (ROOT / path).exists(), f"{page}: {path}"
        for names, path in re.findall(r"`([\w.]+)` (?:in|of) `([\w/]+\.py)`", text):
            for name in names.split("."):
                assert re.search(rf"^ *(?:class |def |){name}\b", (ROOT / path).read_text(), re.M), f"{path}: {names}"
    results = [page for page in PAGES if page.startswith("results/") and page != "results/index.md"]
    assert len(results) == 12
    for page in results:
        made = (DOCS / page).read_text().partition("## Made by\n")[2]
        assert len(re.findall(r"benchmarks/\w+\.(?:txt|csv)", made)) > 1, page


def test_places_that_the_changelog_names_exist():
    moved = re.findall(r"^\| `[\w.]+`(?:, in part)? \| (.*) \|$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert len(moved) > 60
    for module in {module for now in moved for module in re.findall(r"(?:^|; )`([\w.]+)`", now)}:
        place = ROOT.joinpath(*module.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), module
