"""Flips of weights, and losses against angles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predictor.effects import Effect
from predictor.risk import risk_of
from reports import results
from reports.plots import drawing, style, training
from training.oscillation import WITHIN

ROOT = Path(__file__).parents[3]


def run_of(number, rates, setting="LOG4", rounding="nearest"):
    return pd.DataFrame(
        {"step": range(1, len(rates) + 1), "flip_rate": rates, "setting": setting, "rounding": rounding, "run": number}
    )


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_seeds_are_drawn_as_mean_and_range():
    """A hundred steps are smoothed over two; the second seed ended early."""
    one, two = np.linspace(0.1, 0.2, 100), np.linspace(0.3, 0.4, 60)
    figure = training.flips(
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


def test_what_flips_back_is_drawn_as_flips_are():
    rates = np.linspace(0.1, 0.2, 30)
    table = run_of(0, rates).rename(columns={"flip_rate": "oscillation"})
    [axes] = training.flips(table, "back", training.OSCILLATION).axes
    assert lines_of(axes)["LOG4, nearest"].get_ydata() == pytest.approx(rates)
    assert f"flip back within {WITHIN} steps" in axes.get_ylabel()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_logarithmic_axis_for_rates_that_fall_far(tmp_path, ending):
    """Rates of zero lie below the axis; a run without any flip is no reason for one."""
    falling = np.concatenate([np.logspace(-1, -4, 50), np.zeros(10)])
    figure = training.flips(pd.concat([run_of(0, falling), run_of(1, np.full(60, 0.1), "FP134")]), "flips")
    [axes] = figure.axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == pytest.approx((5e-5, 0.2))
    style.save(figure, tmp_path / f"flips.{ending}")
    assert (tmp_path / f"flips.{ending}").stat().st_size > 1000
    figure = training.flips(run_of(0, np.zeros(5)), "none")
    assert figure.axes[0].get_yscale() == "linear"
    style.save(figure, tmp_path / f"none.{ending}")


def test_final_loss_against_angle():
    runs = pd.read_csv(ROOT / "benchmarks" / "validation_resnet20.csv")
    [axes] = training.loss_against_angle(runs.assign(loss=runs.loss.where(runs.name != "BM25", np.inf)), "net").axes
    marks = sorted((x, y) for container in axes.containers for x, y in zip(*container.lines[0].get_data(), strict=True))
    means = runs[runs.name != "BM25"].groupby("name").agg(angle=("angle", "first"), loss=("loss", "mean"))
    assert np.array(marks) == pytest.approx(np.array(sorted(zip(means.angle, means.loss, strict=True))))
    [crosses] = axes.collections[-1:]
    assert crosses.get_label() == "diverged"
    assert crosses.get_offsets()[:, 0].tolist() == pytest.approx([runs[runs.name == "BM25"].angle.iloc[0]])


def test_gaps_over_the_angle(tmp_path):
    trainings = pd.DataFrame(
        {
            "network": ["a"] * 3 + ["b"] * 2,
            "name": ["P", "P", "Q", "P", "Q"],
            "seed": [0, 1, 0, 0, 0],
            "angle_E": [1.0, 1.0, 8.0, 2.0, 9.0],
            "gap": [0.0, 0.1, np.inf, 0.02, 0.5],
        }
    )
    risk = risk_of(trainings, Effect.E)
    [axes] = training.gap_against_angle(trainings, risk, "gaps").axes
    marks = [container.lines[0].get_data() for container in axes.containers]
    assert [(list(x), list(y)) for x, y in marks] == [
        ([1, 8], pytest.approx([1.05, 4])),  # one that diverged stands at a gap of 3
        ([2, 9], pytest.approx([1.02, 1.5])),
    ]
    told = next(line for line in axes.lines if line.get_label() == "what is told")
    assert told.get_ydata() == pytest.approx(1 + risk.gaps(told.get_xdata())[0])
    path = tmp_path / "runs.csv"
    results.write(trainings, path, {})
    figure = drawing.draw([path], drawing.Kind.GAP)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {"a (3 trainings)", "b (2 trainings)"} < set(labels)  # beside those that come with the package


def test_a_run_in_which_nothing_flips_is_named_so():
    """On a logarithmic axis it has no place."""
    rates = np.geomspace(0.001, 0.1, 30)
    [axes] = training.flips(pd.concat([run_of(0, rates), run_of(1, 0 * rates, rounding="hysteresis")]), "flips").axes
    assert axes.get_yscale() == "log"
    assert list(lines_of(axes)) == ["LOG4, nearest", "LOG4, hysteresis: none"]
