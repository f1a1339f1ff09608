"""Tables for papers."""

from pathlib import Path

import pytest

from predictor import measure
from predictor.risk import bundled_trainings, risk_of
from predictor.scheme import PAPER
from reports import results
from reports.tables.layout import plain
from reports.tables.paper import latex, markdown, table_of
from tests.nets import small_workload

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TABLE = plain("title", [("format", "left"), ("angle_E", "right")], [["A&B|5%", "1.0 ± 0.5"], ["~x^2{}", "881†"]])


def test_latex_means_what_the_table_says():
    assert latex([TABLE, "5% of ~x"]).split("\n") == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"format & angle\_E \\",
        r"\midrule",
        r"A\&B|5\% & 1.0 $\pm$ 0.5 \\",
        r"$\sim$x\textasciicircum{}2\{\} & 881$^\dagger$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\par{\footnotesize 5\% of $\sim$x\par}",
        "",
    ]


def test_markdown_keeps_its_columns():
    lines = markdown([TABLE, "below"]).split("\n")
    assert lines[:3] == ["| format | angle_E |", "| --- | ---: |", "| A&B&#124;5% | 1.0 ± 0.5 |"]
    assert lines[3:] == ["| ~x^2{} | 881† |", "", "below", ""]


def test_rows_of_a_measurement_and_what_it_is_held_against(tmp_path):
    found = measure(small_workload(), ["FP134", "INT8"], ["E", "AE"], 2)
    beside = results.effects_across(measure(small_workload(), ["bfloat16"], ["E", "AE"], 2))
    results.write(found, tmp_path / "m.csv", {"workload": "net", "yardsticks": beside.to_dict("records")})
    lines = markdown(table_of(tmp_path / "m.csv", 20, 0.01)).splitlines()
    assert lines[0] == "| format | angle E | angle AE |"
    assert [line.split(" ")[1] for line in lines[2:5]] == ["FP134", "INT8", "bfloat16"]
    assert lines[5:] == ["", "angles in degrees with 95% intervals; ~ on fewer mini-batches"]
    angles = {row["effect"]: row["angle"] for _, row in found[found["format"] == "INT8"].iterrows()}
    assert f"| {angles['E']:.2f} [" in lines[3]
    # By the scheme of the trainings that gaps are told from; not at operands.
    for settings, gaps in ((PAPER.settings, True), (PAPER.settings | {"points": "operands"}, False)):
        results.write(found, tmp_path / "m.csv", {"workload": "net", **settings})
        lines = markdown(table_of(tmp_path / "m.csv", 20, 0.01)).splitlines()
        assert ("gap" in lines[0]) is gaps
        middle, low, high = (value[0] for value in risk_of(bundled_trainings()).gaps([angles["E"]]))
        said = f"{100 * middle:.1f}% [{100 * low:.0f}, {100 * high:.0f}] |"
        assert lines[3].endswith(said) is gaps


def test_a_ranking_has_its_footnotes():
    lines = markdown(table_of(BENCHMARKS / "resnet18_ranking.csv", 2, 0.01)).splitlines()
    below = lines[lines.index("") :]
    assert any(line.startswith("angles in degrees with 95% intervals; ~ an estimate") for line in below)
    assert below[-1] == "as good as float32 within 1%: 93 of 498 formats, those with an angle of E below 3.05 degrees"


def test_another_result_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no table is made of it"):
        table_of(tmp_path / "x.csv", 20, 0.01)
