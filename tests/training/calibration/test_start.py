"""Training from what calibration ended with."""

import json
import shutil

import pytest
import torch

from tests.training import small
from tests.training.calibration import networks
from training import checkpoint, train
from training.calibration import AdaRound, begin_from, quantize
from training.calibration.result import END
from training.methods import LSQ, LSQPlus, quantized
from training.methods.names import method_from
from training.quantizers.known_ranges import KnownRanges

QUICK = {"minibatches": 3, "adaround": AdaRound(iterations=40), "rank_layers": False}
SAME_GRIDS = {"weight_bits": 4, "activation_bits": 4, "edge_bits": 4}


@pytest.fixture(scope="module")
def finished(workload, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    return folder, quantize(workload, "INT4", "INT4", output=folder, bias_correction="empirical", **QUICK)


def test_the_network_is_that_of_the_end_of_calibration(workload, finished):
    folder, result = finished
    begun, ranges = begin_from(folder, workload)
    for batch in workload.batches[:2]:
        assert torch.equal(begun.model(batch[0]), result.network(batch[0]))
    assert set(ranges.inputs) == {"0", "3", "8"}
    assert set(ranges.weights) == {f"{name}.weight" for name in ranges.inputs}


@pytest.mark.parametrize("kind", [LSQ, LSQPlus])
def test_the_first_quantized_weights_are_those_of_calibration(workload, finished, kind, tmp_path):
    """Steps reach the same ends, so rounding to nearest finds every weight where AdaRound left it."""
    folder, result = finished
    begun, ranges = begin_from(folder, workload)
    method = kind(**SAME_GRIDS, ranges=ranges)
    trained = train(
        begun, method=method, epochs=1, rate=1e-30, weight_decay=0.0, start="pretrained", output=tmp_path / "run"
    )
    run = trained.method_state
    for layer in run.layers.values():
        own = result.network.get_submodule(layer.site.layer).weight
        torch.testing.assert_close(run.weight(layer, own).detach(), own, rtol=3e-7, atol=0)
        step = run.parameters[f"step.{layer.name}"].item()
        low, high = ranges.inputs[layer.site.layer]
        least, most = run.grids[layer.name]
        if kind is LSQPlus:
            assert step == pytest.approx((max(high, 0) - min(low, 0)) / 15, rel=1e-6)
            assert run.parameters[f"offset.{layer.name}"].item() == pytest.approx(min(low, 0), abs=1e-6)
        else:
            # The least step at which both ends are reached.
            assert min(low, 0) == pytest.approx(max(step * least, min(low, 0)), abs=1e-6)
            assert high == pytest.approx(min(step * most, high), abs=1e-6)
            assert step == pytest.approx(max(high / most, min(low, 0) / least if least else 0), rel=1e-6)
    with quantized(trained.model, run) as model, torch.no_grad():
        begins = sum(small.loss(model, batch).item() for batch in workload.batches[:3]) / 3
    assert begins == pytest.approx(result.steps[-1].loss, abs=0.02)
    assert ranges.name in (tmp_path / "run" / "settings.json").read_text()


def test_training_from_it_lowers_the_loss(workload, finished):
    """At two bits, where there is something to gain."""
    begun, ranges = begin_from(finished[0], workload)
    method = LSQ(weight_bits=2, activation_bits=2, edge_bits=2, ranges=ranges)
    losses = train(begun, method=method, epochs=4, rate=0.02, start="pretrained").epochs.loss
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


def test_what_does_not_fit_is_refused(workload, finished, tmp_path):
    with pytest.raises(ValueError, match="holds no finished run of formats quantize"):
        begin_from(tmp_path, workload)
    other = networks.trained(steps=5)
    with pytest.raises(ValueError, match="with other weights than"):
        begin_from(finished[0], other)
    ranges = begin_from(finished[0], workload)[1]
    with pytest.raises(
        ValueError, match="method ui8 learns no steps to begin with ranges of calibration; lsq and lsqplus do"
    ):
        method_from(["ui8"], ranges=ranges)
    with pytest.raises(ValueError, match="--from with a folder of formats quantize sets them"):
        method_from(["lsq"], ["ranges=0.5"])
    assert method_from(["lsq", "ui8"], ["error_format=INT8"], ranges).parts[0].ranges is ranges


def test_ranges_are_told_apart_by_their_name():
    ranges = [
        KnownRanges({"w": torch.tensor(t)}, {"l": (0.0, high)}) for t, high in ((1.0, 2.0), (1.0, 3.0), (1.5, 2.0))
    ]
    assert len({each.name for each in ranges}) == 3
    assert ranges[0].name == KnownRanges({"w": torch.tensor(1.0)}, {"l": (0.0, 2.0)}).name
    json.dumps(ranges[0].name)


def test_what_is_damaged_is_refused(workload, finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    path = folder / END
    tensors, state = checkpoint.read(finished[0] / END)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"network.safetensors is damaged: .* anew with formats quantize --force$"):
        begin_from(folder, workload)
    for changed in ({"inputs": 3}, {"settings": {}}, {"settings": None}):
        checkpoint.write(path, tensors, {**state, **changed})
        with pytest.raises(ValueError, match=r"network.safetensors does not hold .*--force$"):
            begin_from(folder, workload)
    # What the network was made with is in it: the settings beside it are for readers.
    checkpoint.write(path, tensors, state)
    (folder / "settings.json").write_text("{}")
    assert begin_from(folder, workload)[1].name == begin_from(finished[0], workload)[1].name
