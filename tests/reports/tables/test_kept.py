"""What is said of layers that are kept."""

import math

import pandas as pd
import pytest

from reports.tables.angles import kept_layers

COLUMNS = ("step", "layer", "module", "stays", "share", "angle", "low", "high", "gain", "gain_low", "gain_high", "n")
NOTHING = (0, "", "", False, math.nan, 30.0, 20.0, 40.0, math.nan, math.nan, math.nan, 2)


def told(*rows, chosen):
    table = pd.DataFrame([NOTHING, *rows], columns=list(COLUMNS))
    table.attrs = {"effect": "AE", "chosen": chosen}
    return kept_layers(table, "net: layers to keep")


@pytest.mark.parametrize(("low", "said"), [(0.1, False), (-0.1, True), (float("nan"), True)])
def test_it_says_whether_keeping_a_layer_gains_anything_mini_batch_by_mini_batch(low, said):
    # The intervals of the angles overlap in each case; what decides is the paired difference.
    table, *rest = told(
        (1, "a", "Linear", True, 0.5, 15.0, 8.0, 22.0, 15.0, low, 30.0, 2),
        (2, "b", "Conv2d depthwise", False, 0.1, 40.0, 30.0, 50.0, -25.0, -40.0, -10.0, 2),
        chosen=["a"],
    )
    open_ = "not decided on 2 mini-batches whether keeping a gains anything; --minibatches 4 would tell more"
    assert (open_ in rest) == said
    assert rest[-1] == "--exact a"
    gain = next(column for column in table.columns if column.header == "gain")
    assert list(gain.cells)[1:] == ["15" if math.isnan(low) else f"15 [{low}, 30]", "-25 [-40, -10]"]


def test_nothing_kept_is_no_question():
    assert told(chosen=[])[1:] == [
        "angle in degrees with 95% interval, with this layer and those kept before it in full precision; a layer that "
        "did not make it smaller is not kept; gain: by how much smaller it is than without this layer, mini-batch by "
        "mini-batch; share: tan² of the angle of this layer alone, over the sum of all",
        "no layer made the angle smaller",
    ]
