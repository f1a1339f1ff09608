"""Reading the folders of training runs."""

import json

import pandas as pd
import pytest

from reports.runs import read_flips


@pytest.fixture
def write(tmp_path):
    def run(name, rates=(0.5, 0.25), **settings):
        folder = tmp_path / name
        folder.mkdir()
        content = {
            "workload": "net",
            "weight": "LOG4",
            "weight_rounding": "nearest",
            "weight_digest": "d",
            "rate": 0.1,
            "seed": 0,
            "threads": 1,
        }
        (folder / "settings.json").write_text(json.dumps(content | settings))
        pd.DataFrame({"step": range(1, len(rates) + 1), "flip_rate": rates, "loss": 1.0}).to_parquet(
            folder / "steps.parquet"
        )
        return folder

    return run


def test_one_setting_with_other_seeds(write):
    table, workloads = read_flips(
        [write("a"), write("b", (0.1,), seed=1, threads=2), write("c", weight_rounding="hysteresis")]
    )
    assert workloads == ["net"]
    assert table.values.tolist() == [
        [1, 0.5, "LOG4", "nearest", 0],
        [2, 0.25, "LOG4", "nearest", 0],
        [1, 0.1, "LOG4", "nearest", 1],
        [1, 0.5, "LOG4", "hysteresis", 2],
        [2, 0.25, "LOG4", "hysteresis", 2],
    ]
    assert list(table.columns) == ["step", "flip_rate", "setting", "rounding", "run"]


def test_what_flips_back(write):
    folder = write("a")
    table = pd.read_parquet(folder / "steps.parquet")
    table.assign(oscillation=[float("nan"), 0.125]).to_parquet(folder / "steps.parquet")
    found, _ = read_flips([folder], "oscillation")
    assert found.values.tolist() == [[2, 0.125, "LOG4", "nearest", 0]]
    table.to_parquet(folder / "steps.parquet")
    with pytest.raises(ValueError, match=r"a cannot be drawn: its steps.parquet has no oscillation, which"):
        read_flips([folder], "oscillation")
    table.assign(oscillation=float("nan")).to_parquet(folder / "steps.parquet")
    with pytest.raises(ValueError, match="its flips were not looked for; a method's are not"):
        read_flips([folder], "oscillation")


def test_what_tells_settings_apart(write):
    """Only among runs of one format and rounding."""
    folders = [
        write("a"),
        write("b", rate=0.01, seed=1),
        write("c", weight="FP134", rate=0.5),
        write("d", workload="other"),
    ]
    table, workloads = read_flips(folders)
    assert table.groupby("run").setting.first().tolist() == [
        "LOG4, workload net, rate 0.1",
        "LOG4, workload net, rate 0.01",
        "FP134",
        "LOG4, workload other, rate 0.1",
    ]
    assert workloads == ["net", "other"]


def test_methods_in_the_steps_that_were_sampled(write):
    nan = float("nan")
    one = write("one", (0.5, nan, 0.25), weight="float32", method={"name": "lsq", "weight_bits": 2})
    both = write("both", (nan, 0.1, nan), weight="float32", method=[{"name": "slb"}, {"name": "ui8"}])
    table, _ = read_flips([one, both])
    assert table[["step", "flip_rate", "setting"]].values.tolist() == [
        [1, 0.5, "lsq"],
        [3, 0.25, "lsq"],
        [2, 0.1, "slb"],
    ]


def test_folders_that_cannot_be_drawn(write, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"empty holds no settings.json; a folder is needed that `formats train --output` has written"
    ):
        read_flips([tmp_path / "empty"])
    begun = write("begun")
    (begun / "steps.parquet").unlink()
    with pytest.raises(ValueError, match=r"begun holds no steps.parquet"):
        read_flips([begun])
    with pytest.raises(ValueError, match="full cannot be drawn: its weights are float32, and nothing flips"):
        read_flips([write("full", weight="float32")])
    with pytest.raises(
        ValueError, match="unseen cannot be drawn: its flips were not looked for; a method's are with --angle-every"
    ):
        read_flips([write("unseen", [float("nan")] * 2, weight="float32", method={"name": "lsq"})])
    for name, file in (("cut", "steps.parquet"), ("short", "settings.json")):
        folder = write(name)
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=f"run .*{name} cannot be drawn: ") as caught:
            read_flips([folder])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "{}",
        "{",
        '"x"',
        '{"weight": "LOG4"}',
        '{"weight": "LOG4", "workload": "n", "weight_rounding": "x", "method": [3]}',
    ],
)
def test_settings_that_are_none_of_a_run(write, text):
    folder = write("a")
    (folder / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=rf"\Arun {folder} cannot be drawn: [^\n]+\Z"):
        read_flips([folder])
