"""What a run writes down."""

from tests.training import small
from training import train
from training.log import saturation


def test_what_is_logged():
    found = train(small.workload(), epochs=1)
    layers = found.layers
    first = layers[layers.step == 1]
    assert first.groupby("kind", observed=True).size().to_dict() == {"A": 7, "E": 6, "G": 3, "W": 3}
    assert set(first[first.kind == "W"].place) == {"0.weight", "3.weight", "8.weight"}
    # Two terms at the input (A) and at the last linear layer (E).
    assert first[first.term == 1][["kind", "place"]].to_numpy().tolist() == [["A", ":input"], ["E", "8:linear"]]
    weights = layers[layers.kind == "W"]
    assert (weights.groupby("step").flips.sum().to_numpy() == found.steps.flips.to_numpy()).all()
    assert (weights.groupby("step").oscillations.sum() / (72 + 576 + 288)).tolist() == found.steps.oscillation.tolist()
    assert (weights.oscillations <= weights.flips).all()
    assert 0 < found.steps.oscillation.max() < found.steps.flip_rate.max()
    assert (found.steps.flip_rate == found.steps.flips / (72 + 576 + 288)).all()
    # A delayed scale moves by at most one a step.
    tops = layers[layers.kind == "E"].pivot_table(
        index="step", columns=["place", "term"], values="top_low", observed=True
    )
    assert tops.diff().abs().max().max() <= 1
    for kind in "AE":
        own = layers[layers.kind == kind].groupby("step")
        share = (own.overflows.sum() / own.elements.sum()).to_numpy(float)
        assert (found.steps.saturated >= share).all()
    assert found.epochs.metric.iloc[-1] == found.metric


def test_a_run_whose_scales_lag_behind_says_so():
    full = dict.fromkeys(("weight", "gradient", "master"), "float32")
    steps = train(small.workload(), epochs=1, **full).steps
    assert saturation(steps) is None
    lagging = steps.assign(saturated=[0.0, 0.02, 0.3, 0.02, *[0.0] * (len(steps) - 4)])
    assert saturation(lagging).startswith(
        f"in 3 of {len(steps)} steps more than 1% of the activations or errors lay beyond the largest value of their "
        "scale (30% in step 3): a delayed scale"
    )
    assert saturation(lagging.drop(columns="saturated")) is None
    assert saturation(lagging.head(3)) is None
