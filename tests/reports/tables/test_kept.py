"""What is said of layers that are kept."""

import pandas as pd
import pytest

from reports.tables.angles import kept_layers


@pytest.mark.parametrize(
    ("high", "said"),
    [(19.0, False), (21.0, True), (float("nan"), True)],  # below the first angle's interval, in it, no interval
)
def test_it_says_where_nothing_is_decided(high, said):
    table = pd.DataFrame(
        {
            "step": [0, 1, 2],
            "layer": ["", "a", "b"],
            "module": ["", "Linear", "Conv2d depthwise"],
            "stays": [False, True, False],
            "share": [float("nan"), 0.5, 0.1],
            "angle": [30.0, 15.0, 40.0],
            "low": [20.0, 11.0, 30.0],
            "high": [40.0, high, 50.0],
            "n": [2, 2, 2],
        }
    )
    table.attrs = {"effect": "AE", "chosen": ["a"]}
    said_of = kept_layers(table, "net: layers to keep")
    open_ = (
        "not decided on 2 mini-batches: the intervals of the first and the last angle overlap; --minibatches 4 would "
        "narrow them"
    )
    assert (open_ in said_of) == said
    assert said_of[-1] == "--exact a"


def test_nothing_kept_is_no_question():
    table = pd.DataFrame(
        {
            "step": [0],
            "layer": [""],
            "module": [""],
            "stays": [False],
            "share": [1.0],
            "angle": [3.0],
            "low": [2.0],
            "high": [4.0],
            "n": [2],
        }
    )
    table.attrs = {"effect": "AE", "chosen": []}
    assert kept_layers(table, "net")[-1] == "no layer made the angle smaller"
