"""list, show, vectors and verify."""

import json
import re

from formats.hardware.totals import total_cost
from tests.command import run


def test_list(folder):
    out = run("list", cwd=folder).stdout
    assert "498 formats" in out
    assert re.search(r"T8\.5x3@2 +8 +tapered +tensor +15 +4x2,5x3,4x7,3,2,1", out)
    rows = json.loads(run("list", "--bits", "7", "--family", "bm", "--json", cwd=folder).stdout)
    assert [row["name"] for row in rows] == ["BM06", "BM24", "BM33", "BM42", "BM51"]
    assert "4 formats" in run("list", "--bits", "8", "--family", "FP", cwd=folder).stdout
    assert re.search(
        r"E4M3 +8 +constant +4x15,3,2,1 +448 +0\.001953125 +NaN, -0 +E4M3FN",
        run("list", "--standards", cwd=folder).stdout,
    )


def test_show(folder):
    facts = json.loads(run("show", "fp134", "--top", "4", "--json", cwd=folder).stdout)
    assert facts["name"] == "FP134"
    assert (facts["largest"], facts["smallest_normal"], facts["smallest_positive"]) == (31.0, 0.25, 0.015625)
    assert (facts["epsilon"], facts["number_of_values"], facts["binades"]) == (0.0625, 255, 11)
    assert facts["values"][1] == {"code": 1, "value": 0.015625}
    text = run("show", "INT8", cwd=folder).stdout
    assert "7,6,5,4,3,2,1" in text
    assert re.search(r"0x7F +01111111 +1\.984375", text)
    assert re.search(
        r"special values +NaN 0x7F, 0xFF; -0 0x80\n", re.sub(r" +\n", "\n", run("show", "E4M3", cwd=folder).stdout)
    )
    assert len(re.findall(" 0x", run("show", "FP134", "--values", "positive", cwd=folder).stdout)) == 127
    assert " 0x" not in run("show", "FP134", "--values", "none", cwd=folder).stdout
    refused = run("show", "FP134", "--values", "some", cwd=folder, check=False).stderr
    assert refused == "error: values 'some': allowed are all, positive, none\n"
    assert "65279 values, too many to list" in run("show", "bfloat16", cwd=folder).stdout


def test_vectors(folder):
    out = run("vectors", "T8.5x3@2", "--top", "4", "-o", "rtl", cwd=folder).stdout
    assert out.split() == [
        "wrote",
        "rtl/T8_5x3_2_vectors.csv",
        "wrote",
        "rtl/T8_5x3_2_decode.hex",
        "wrote",
        "rtl/T8_5x3_2.h",
    ]
    assert (folder / "rtl" / "T8_5x3_2_vectors.csv").read_text().startswith("input_bits,output_code,output_bits\n")
    again = run("vectors", "T8.5x3@2", "-o", "rtl", cwd=folder, check=False)
    assert (again.returncode, again.stderr) == (
        2,
        "error: output rtl/T8_5x3_2_vectors.csv exists; use --force to replace it\n",
    )
    run("vectors", "T8.5x3@2", "-o", "rtl", "--force", cwd=folder)


def test_cost_tells_all_that_it_can(folder):
    done = run("cost", "FP134", "E8M0", "NVFP4", "NF4", cwd=folder, check=False)
    for name, size in (("FP134", "1"), ("NVFP4", "0.5625"), ("NF4", "0.5")):
        cost = total_cost(name)
        assert re.search(rf"^ {name} .* {cost.total:.0f} +{cost.femtojoules:.0f} +{size} *$", done.stdout, re.M)
    assert "512 products a sum" in done.stdout
    assert "of a pair F+G" not in done.stdout
    assert done.returncode == 2
    assert done.stderr == "error: E8M0 has no sign; a lane multiplies signed numbers and zero\n"


def test_cost_of_pairs_and_short_sums(folder):
    out = run("cost", "FP143+FP152", "BM25", "--products", "64", cwd=folder).stdout
    assert re.search(rf"^ BM25 .* {total_cost('BM25', products=64).total:.0f} ", out, re.M)
    assert "64 products a sum" in out
    assert "of a pair F+G: a lane that multiplies F by G, activations by errors" in out


def test_verify(folder):
    out = run("verify", "ml_dtypes", "--inputs", "3000", cwd=folder).stdout
    assert "12 roundings exact, 0 not" in out
    assert len(re.findall(r"^ \S.* \d+ +0 *$", out, re.M)) == 12  # a row a rounding
    (folder / "casts.py").write_text(
        "import numpy as np\ndef sloppy(x):\n    return np.floor(x * 64 + 0.5).astype(np.float32) / 64\n"
    )
    done = run("verify", "casts:sloppy", "--as", "INT8", "--inputs", "3000", "--json", cwd=folder, check=False)
    assert done.returncode == 1
    wrong = {entry["category"] for entry in json.loads(done.stdout) if entry["mismatches"]}
    assert "ties" in wrong
    assert run("verify", "nothing", cwd=folder, check=False).returncode == 2
