"""Every picture of the documentation, drawn anew into docs/images/: run `python docs/gallery.py` in the root of the
repository.

Most are made of the raw output in benchmarks/. Tensors and angles by layer are computed here, on a few small
mini-batches of the bundled ResNet-20, flips and what causes an angle on the network of examples/mine.py; the picture of
the report is a screenshot, for which the package playwright and a Chromium are needed.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from formats.pairs import candidate
from predictor import measure, risk
from predictor.attribution import attribute
from predictor.effects import Effect
from predictor.recording import record
from predictor.recording import write as write_tensors
from reports import results
from reports.page import html
from reports.plots import attributions, drawing, precision, rankings, style
from reports.plots import training as plots
from search.table import with_gates
from training import train
from workloads import Workload, load

ROOT = Path(__file__).parents[1]
BENCHMARKS, IMAGES = ROOT / "benchmarks", ROOT / "docs" / "images"
RANKING = BENCHMARKS / "resnet18_ranking.csv"
RECIPES, OF_LAYERS = BENCHMARKS / "recipes_transformer.csv", BENCHMARKS / "recipes_transformer_layers.csv"
"""Of `formats recipes`; docs/results/recipes.md has the commands."""
LAYERS = ("FP134", "BM25", "T8.6x2@1", "FP143", "INT8", "FP152")
EXAMPLE = f"{ROOT / 'examples' / 'mine.py'}:net"
FLIP_STEPS, FLIP_BATCH = 150, 32


def searched(path: Path) -> pd.DataFrame:
    """What `formats search` has printed, as the columns that the plot needs."""
    rows = []
    for line in path.read_text().splitlines():
        found = re.match(r" +\d+   (\S+) ", line)
        if found:
            # Of each effect the angle and the difference, which the reference does not have; the last of them is AE.
            difference = re.search(r"([+-][\d.]+) ± ([\d.]+)(?: +\d+\*?)? +\S[^±]*$", line)
            middle, half = (float(part) for part in difference.groups()) if difference else (0.0, 0.0)
            role = re.split(r" {2,}", line.strip())[-1]
            rows.append((found[1], role, middle, middle - half, middle + half))
    return pd.DataFrame(rows, columns=["name", "role", "difference_AE", "difference_low_AE", "difference_high_AE"])


def angles() -> Figure:
    return drawing.draw([RANKING], drawing.Kind.ANGLES)


def top() -> Figure:
    return drawing.draw([RANKING], drawing.Kind.TOP)


def bars() -> Figure:
    return drawing.draw([RANKING], drawing.Kind.BARS, count=8)


def pareto() -> Figure:
    table = results.read(RANKING)
    return rankings.pareto_front(
        with_gates(table, [candidate(name, files=False) for name in table["name"]]),
        "AE",
        "resnet18: angle of AE against cost",
        risk.WITHIN,
        LAYERS,
        results.sidecar(RANKING)["settings"]["minibatches"],
    )


def profiles() -> Figure:
    return drawing.draw([], drawing.Kind.PROFILES, ["INT8", "FP134", "T8.6x2@1", "FP152"])


def histograms() -> Figure:
    tensors = record(load("resnet20"), ["layer1.0.conv1", "layer3.2.conv2"], batch_size=16)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet20.npz"
        write_tensors(tensors, file)
        return drawing.draw([file], drawing.Kind.HISTOGRAMS, ["FP134", "INT8", "FP152"])


def layers() -> Figure:
    workload = load("resnet20")
    batches = workload.minibatches(32)[:2]
    few = Workload(workload.name, workload.model, batches, workload.loss)
    return attributions.layers(
        measure(few, LAYERS, ["AE"], scopes=["layers"]), "resnet20: angle of AE by layer, two mini-batches of 32"
    )


def attribution() -> Figure:
    return attributions.attribution(attribute(load(EXAMPLE), "FP134"), "mine: what causes the angle of FP134")


def synthesized() -> Figure:
    return precision.synthesized(
        searched(BENCHMARKS / "search_resnet18.txt"), "AE", "resnet18: synthesized and known formats"
    )


def recipes() -> Figure:
    return drawing.draw([RECIPES], drawing.Kind.RECIPES)


def products() -> Figure:
    return drawing.draw([OF_LAYERS], drawing.Kind.PRODUCTS)


def kept() -> Figure:
    return drawing.draw([OF_LAYERS], drawing.Kind.KEPT)


def validation() -> Figure:
    return drawing.draw([BENCHMARKS / "validation_resnet20.csv"], drawing.Kind.VALIDATION)


def gap() -> Figure:
    trainings = risk.bundled_trainings()
    return plots.gap_against_angle(trainings, risk.risk_of(trainings, Effect.AE), "How much worse a format trains")


def _of_runs(kind: drawing.Kind) -> Figure:
    workload = load(EXAMPLE)
    few = Workload(
        "mine", workload.model, workload.minibatches(), workload.loss, train=workload.train(FLIP_BATCH)[:FLIP_STEPS]
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for rounding in ("nearest", "hysteresis", "stochastic"):
            runs.append(Path(folder) / rounding)
            train(
                few, weight="LOG4", weight_rounding=rounding, epochs=1, start="pretrained", rate=0.01, output=runs[-1]
            )
        return drawing.draw(runs, kind)


def flips() -> Figure:
    return _of_runs(drawing.Kind.FLIPS)


def oscillation() -> Figure:
    return _of_runs(drawing.Kind.OSCILLATION)


def screenshot(target: Path) -> str | None:
    """The report of a ranking in headless Chromium; says why there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "the package playwright is missing"
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return "no chromium or google-chrome on the PATH"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page_file = Path(folder) / "report.html"
        html.write([RANKING], page_file)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        page.wait_for_timeout(1000)
        page.screenshot(path=target)
        browser.close()
    return None


PICTURES: tuple[Callable[[], Figure], ...] = (
    angles,
    top,
    bars,
    pareto,
    profiles,
    histograms,
    layers,
    attribution,
    synthesized,
    recipes,
    products,
    kept,
    validation,
    gap,
    flips,
    oscillation,
)


def main(chosen: list[str]) -> None:
    """Draw all pictures, or those that are named."""
    IMAGES.mkdir(exist_ok=True)
    for draw in PICTURES:
        if not chosen or draw.__name__ in chosen:
            style.save(draw(), IMAGES / f"{draw.__name__}.png")
            print(f"wrote {IMAGES.relative_to(ROOT) / draw.__name__}.png", flush=True)
    if not chosen or "report" in chosen:
        missing = screenshot(IMAGES / "report.png")
        print(f"no screenshot of the report: {missing}" if missing else "wrote docs/images/report.png")


if __name__ == "__main__":
    main(sys.argv[1:])
