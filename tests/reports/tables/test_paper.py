"""Tables for papers."""

import pytest

from predictor import measure
from reports import results
from reports.tables.layout import plain
from reports.tables.paper import latex, markdown, table_of
from tests.nets import small_workload

TABLE = plain("title", [("format", "left"), ("angle_E", "right")], [["A&B|5%", "1.0 ± 0.5"], ["~x^2{}", "881†"]])


def test_latex_means_what_the_table_says():
    assert latex(TABLE).split("\n") == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"format & angle\_E \\",
        r"\midrule",
        r"A\&B|5\% & 1.0 $\pm$ 0.5 \\",
        r"$\sim$x\textasciicircum{}2\{\} & 881$^\dagger$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]


def test_markdown_keeps_its_columns():
    assert markdown(TABLE) == ("| format | angle_E |\n| --- | ---: |\n| A&B&#124;5% | 1.0 ± 0.5 |\n| ~x^2{} | 881† |\n")


def test_rows_of_a_measurement_and_what_it_is_held_against(tmp_path):
    found = measure(small_workload(), ["FP134", "INT8"], ["E", "AE"], 2)
    beside = results.effects_across(measure(small_workload(), ["bfloat16"], ["E", "AE"], 2))
    results.write(found, tmp_path / "m.csv", {"workload": "net", "yardsticks": beside.to_dict("records")})
    lines = markdown(table_of(tmp_path / "m.csv", 20, 0.01)).splitlines()
    assert lines[0] == "| format | angle E | angle AE |"
    assert [line.split(" ")[1] for line in lines[2:]] == ["FP134", "INT8", "bfloat16"]
    angles = {row["effect"]: row["angle"] for _, row in found[found["format"] == "INT8"].iterrows()}
    assert f"| {angles['E']:.2f} [" in lines[3]


def test_another_result_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no table is made of it"):
        table_of(tmp_path / "x.csv", 20, 0.01)
