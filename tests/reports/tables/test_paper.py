"""Tables for papers."""

from pathlib import Path

import pandas as pd
import pytest

from predictor import measure
from predictor.effects import Effect
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
    assert lines[5:] == [
        *("", "net, 2 mini-batches, scheme current", ""),
        "angles in degrees with 95% intervals; ~ on fewer mini-batches",
    ]
    angles = {row["effect"]: row["angle"] for _, row in found[found["format"] == "INT8"].iterrows()}
    assert f"| {angles['E']:.2f} [" in lines[3]
    # By the scheme of the trainings that gaps are told from; not at operands.
    for settings, gaps in ((PAPER.settings, True), (PAPER.settings | {"points": "operands"}, False)):
        results.write(found, tmp_path / "m.csv", {"workload": "net", **settings})
        lines = markdown(table_of(tmp_path / "m.csv", 20, 0.01)).splitlines()
        assert ("gap" in lines[0]) is gaps
        middle, low, high = (value[0] for value in risk_of(bundled_trainings(), Effect.AE).gaps([angles["AE"]]))
        said = f"{100 * middle:.1f}% [{100 * low:.0f}, {100 * high:.0f}] |"
        assert lines[3].endswith(said) is gaps


def test_a_ranking_has_its_footnotes():
    lines = markdown(table_of(BENCHMARKS / "resnet18_ranking.csv", 2, 0.01)).splitlines()
    below = lines[lines.index("") :]
    assert any(line.startswith("angles in degrees with 95% intervals; ~ an estimate") for line in below)
    assert (
        below[-1]
        == "as good as float32 within 1%: 1 of 498 formats, up to an angle of AE of 9.62 degrees, the next has 11.1"
    )


def _ranking(folder, names, profiles):
    table = pd.DataFrame({"rank": range(1, 1 + len(names)), "name": names, "bits": 8, "profile": profiles})
    for column, values in {"angle": 1.0, "low": 0.9, "high": 1.1, "source": "measured", "n": 2}.items():
        table[f"{column}_E"] = values
    beside = {**table.iloc[0].to_dict(), "name": "bfloat16", "profile": "8"}
    results.write(table, folder / "r.csv", {"workload": "net", "minibatches": 2, "yardsticks": [beside]})
    return folder / "r.csv"


def test_codebooks_have_no_profile_and_posits_are_escaped(tmp_path):
    path = _ranking(tmp_path, ["posit<8,1>", "FP134"], [None, "5x7"])
    lines = latex(table_of(path, 20, 0.01)).splitlines()
    assert lines[4] == r"1 & posit\textless{}8,1\textgreater{} & 8 & 1.000 [0.9, 1.1] &  \\"
    assert "nan" not in latex(table_of(path, 20, 0.01))


def test_columns_and_rows_that_are_named(tmp_path):
    path = _ranking(tmp_path, ["INT8", "NF4", "FP134", "mine, own"], ["8x1", None, "5x7", "3"])
    lines = markdown(table_of(path, 20, 0.01, ["name", "angle_E", "rank"], ["fp134", "bfloat16"])).splitlines()
    assert lines[:2] == ["| format | angle E | rank |", "| --- | ---: | ---: |"]
    assert lines[2:4] == ["| FP134 | 1.000 [0.9, 1.1] | 3 |", "| bfloat16 | 1.000 [0.9, 1.1] |  |"]
    # A format of one's own is never cut off.
    lines = markdown(table_of(path, 1, 0.01, ["format"])).splitlines()
    assert lines[2:6] == ["| INT8 |", "| mine, own |", "| bfloat16 |", ""]
    assert "below the first 1, formats of one's own: mine, own" in lines
    with pytest.raises(ValueError, match="--columns angle_A: there is no such column; there are rank, format, bits"):
        table_of(path, 1, 0.01, ["angle_A"])
    with pytest.raises(ValueError, match=r"r\.csv has no FP143; --formats names rows of it, such as INT8"):
        table_of(path, 1, 0.01, [], ["FP143"])


def test_another_result_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no table is made of it"):
        table_of(tmp_path / "x.csv", 20, 0.01)


def test_columns_of_a_file_that_no_table_shows():
    shown = table_of(BENCHMARKS / "resnet18_ranking.csv", 3, 0.01, ["name", "difference_AE", "bias", "seconds"])
    lines = markdown(shown).splitlines()
    rows = pd.read_csv(BENCHMARKS / "resnet18_ranking.csv").head(3)
    assert lines[0] == "| format | difference AE | bias | seconds |"
    for line, (_, row) in zip(lines[2:5], rows.iterrows(), strict=True):
        middle, low, high = (row[f"difference{end}_AE"] for end in ("", "_low", "_high"))
        difference = f"{middle:.3g} [{low:.3g}, {high:.3g}]"
        assert line == f"| {row['name']} | {difference} | {row.bias:.3g} | {row.seconds:.3g} |"
    # What the ranking is held against has none.
    assert [cell.strip() for cell in lines[5].split("|")[2:5]] == ["-", "-", "-"]
    with pytest.raises(ValueError, match="there is no such column"):
        table_of(BENCHMARKS / "resnet18_ranking.csv", 3, 0.01, ["nothing"])
