"""What all methods share: resuming, exporting, combining, names and options, formats."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training import small
from tests.training.methods.helper import started
from tests.training.methods.killed import ALL, options_of
from training import train
from training.export.codes import export, load
from training.methods import (
    LSQ,
    METHODS,
    SLB,
    Compensation,
    DistributionAdaptiveInt8,
    LSQPlus,
    Octo,
    UnifiedInt8,
    combine,
    described,
    method_from,
    quantized,
)
from training.quantizers.clipped import Clipped, absmax, from_description

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of the runs that were killed, one of each method."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.training.methods.killed", str(folder)]
    done = subprocess.run(command, cwd=ROOT, timeout=300, check=False, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{name} {signal.SIGKILL.value}" for name in ALL], done.stderr
    return folder


@pytest.mark.parametrize("name", ALL)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, killed, name):
    whole = train(small.workload(), output=tmp_path / "whole", **options_of(name))
    assert len(pd.read_parquet(killed / name / "steps.parquet")) == 12
    went_on = train(small.workload(), output=killed / name, resume=True, **options_of(name))
    # Network, method's parameters and state, optimizer, random numbers.
    saved = [load_file(folder / "checkpoint.safetensors") for folder in (tmp_path / "whole", killed / name)]
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(saved[0][key], saved[1][key]) for key in saved[0])
    columns = ["step", "loss", "rate", "angle", "layer_angle", "flips", "flip_rate"]
    pd.testing.assert_frame_equal(whole.steps[columns], went_on.steps[columns], check_exact=True)
    pd.testing.assert_frame_equal(whole.epochs, went_on.epochs, check_exact=True)
    assert whole.run.state() == went_on.run.state()


def test_a_checkpoint_of_other_options_is_refused(tmp_path):
    options = {"epochs": 1, "output": tmp_path}
    train(small.workload(1), method=UnifiedInt8(period=50), **options)
    for other in (UnifiedInt8(period=60), UnifiedInt8(period=50, format="FP134"), DistributionAdaptiveInt8(), None):
        with pytest.raises(ValueError, match="was made with"):
            train(small.workload(1), method=other, **options, resume=True)
    assert json.loads((tmp_path / "settings.json").read_text())["method"]["alpha"] == 20


def test_a_method_leaves_the_formats_at_float32_unless_they_are_given():
    found = train(small.workload(1), method=LSQ(), epochs=1)
    assert [found.settings[role] for role in ("activation", "error", "weight", "gradient", "master")] == ["float32"] * 5
    found = train(small.workload(1), method=LSQ(), epochs=1, error="FP134", master="FP169")
    assert (found.settings["error"], found.settings["master"]) == ("FP134", "FP169")
    assert set(found.layers.kind) == {"E"}


@pytest.mark.parametrize("name", [name for name in ALL if name != "octo-demo"])
def test_the_export_computes_what_evaluation_computes(tmp_path, name):
    workload = small.workload()
    found = train(workload, method=ALL[name], epochs=2, rate=0.05)
    export(tmp_path / "net.safetensors", found.model, found.run)
    plain = load(tmp_path / "net.safetensors", workload.model)
    x, y = small.images(64, 5)
    with quantized(found.model, found.run):
        expected = found.model(x)
    with torch.no_grad():
        assert (plain(x) - expected).norm() <= 1e-5 * expected.norm()
        # It is the quantized network that was exported, and what the metric is of.
        assert (found.model(x) - expected).norm() > 1e-3 * expected.norm()
    assert small.accuracy(plain, small.images(128, 2)) == pytest.approx(found.metric, abs=0.02)
    saved = load_file(tmp_path / "net.safetensors")
    codes = [tensor for key, tensor in saved.items() if key.endswith(".codes")]
    assert codes
    assert all(tensor.dtype in (torch.int8, torch.uint8) for tensor in codes)
    # The float weights of quantized layers are not in the file.
    assert not any(key.removesuffix(".codes") in saved for key in saved if key.endswith(".codes"))
    assert y.shape == (64,)


def test_exports_that_do_not_fit_are_refused(tmp_path):
    found = train(small.workload(1), method=LSQ(), epochs=1)
    path = tmp_path / "net.safetensors"
    export(path, found.model, found.run)
    with pytest.raises(ValueError, match=r"has no 1.weight, .*another network"):
        load(path, nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Linear(3, 3)))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="cut short or no export"):
        load(path, found.model)
    with pytest.raises(ValueError, match="quantizer 'cubic'"):
        from_description({"kind": "cubic"})

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x)))

    model = Twice()
    run, _ = started(LSQ(), model, torch.randn(3, 4))
    with pytest.raises(ValueError, match="takes part in more than one product"):
        export(path, model, run)


def test_methods_together():
    """Weights and activations of one, errors of the other, outputs of the third."""
    model, x = small.network(), small.images(8, 1)[0]
    lsq, ui8, lac = LSQ(), UnifiedInt8(error_rounding="nearest"), Compensation()
    run, flow = started(combine([ui8, lac, lsq]), model, x)
    alone, _ = started(lsq, model, x)
    with quantized(model, alone):
        plain = model(x)
    for name in run.trained():
        if name.startswith(("mu.", "o.")):
            run.trained()[name].data.zero_()
    # Its steps saw compensated outputs.
    for name, parameter in alone.parameters.items():
        run.trained()[name].data.copy_(parameter.data)
    run.training = False
    with quantized(model, run):
        assert torch.equal(model(x), plain)
    assert set(run.trained()) > set(alone.parameters)
    run.training = True
    run.begin_step()
    with flow:
        flow.gradients(model(x).square().sum(), [model[0].weight])
    rates = {name: {"lr": 1.0} for name in ("0.weight", "3.weight", "8.weight")}
    run.before_update(rates)
    assert all(0.1 <= group["lr"] < 1 for group in rates.values())
    assert run.group("3.weight") == replace(run.group("3.weight"), own="3.weight", decay=1.0)
    assert run.group("step.3.weight").decay == 0
    assert run.penalty() == 0


def test_methods_that_do_not_go_together_are_refused():
    for methods, message in (
        ([LSQ(), LSQPlus()], "lsq and lsqplus: both quantize the same weights"),
        ([SLB(), LSQ()], "slb and lsq: both quantize the same weights"),
        ([UnifiedInt8(), DistributionAdaptiveInt8()], "ui8 and dai8: both set the thresholds of the same errors"),
        ([Octo(), LSQ()], "octo and lsq: octo quantizes both passes"),
        ([Octo(), Compensation()], "octo and lac: octo quantizes both passes and has its own compensation"),
        ([LSQ(), LSQ()], "lsq and lsq: a method may be given once"),
    ):
        with pytest.raises(ValueError, match=message):
            combine(methods)
    single = LSQ()
    assert combine([single]) is single
    # Compensation goes with any forward quantizer, those of the gradient methods too.
    assert [part.about.name for part in combine([Compensation(), UnifiedInt8()]).parts] == ["ui8", "lac"]


def test_methods_by_name():
    assert method_from(["ui8"], ["alpha=10", "search=grad", "skip_first=true", "period=7"]) == UnifiedInt8(
        alpha=10.0, search="grad", skip_first=True, period=7
    )
    assert method_from(["lsqplus"], ["divisor=none"]) == LSQPlus()
    assert method_from(["lsqplus"], ["divisor=15"]) == LSQPlus(divisor=15.0)
    found = method_from(["lsq", "dai8"], ["lsq.include_linear=false", "format=FP134"])
    assert found.parts == (LSQ(include_linear=False), DistributionAdaptiveInt8(format="FP134"))
    for names, options, message in (
        (["adam"], [], "method 'adam': allowed are octo, lac, dai8, ui8, lsq, lsqplus, slb"),
        (
            ["ui8"],
            ["gamma=1"],
            "option 'gamma=1': KEY=VALUE is needed, with a key of ui8: format, error_format, error_rounding, alpha, beta",
        ),
        (["ui8"], ["alpha"], "option 'alpha'"),
        (["ui8"], ["alpha=big"], "alpha 'big': a number is needed"),
        (["ui8"], ["period=1.5"], "period '1.5': a whole number is needed"),
        (["ui8"], ["skip_first=maybe"], "skip_first 'maybe': true or false is needed"),
        (
            ["lsq", "ui8"],
            ["include_linear=false"],
            "lsq and ui8 have it; write lsq.include_linear=false or ui8.include_linear=false",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            method_from(names, options)


def test_the_table_of_methods():
    rows = described()
    assert [row["name"] for row in rows] == list(METHODS)
    assert json.loads(json.dumps(rows)) == rows
    assert next(row for row in rows if row["name"] == "ui8")["options"]["alpha"] == 20


@pytest.mark.parametrize("name", ["INT8", "INT4", "FP134", "E4M3", "NF4", "LOG4", "INT8/real", "T8.5x3@2"])
def test_a_format_at_a_threshold(name):
    """The largest value lies at the threshold, values beyond it become it, NaN and infinities stay, codes give the same
    values."""
    torch.manual_seed(0)
    quantizer, x, c = Clipped(name), 3 * torch.randn(4000), torch.tensor(2.7)
    y = quantizer(x, c)
    assert y.abs().max().item() == pytest.approx(2.7, rel=1e-6)
    assert torch.equal(y[x > 2.7], torch.full_like(y[x > 2.7], y.max()))
    codes, step = quantizer.encode(x, c)
    assert torch.equal(quantizer.decode(codes, step), y + 0.0)
    strange = quantizer(torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0]), c)
    assert strange[0].isnan()
    assert strange[1:3].tolist() == [torch.inf, -torch.inf]
    half = quantizer(x.bfloat16(), c)
    assert half.dtype is torch.bfloat16
    assert torch.equal(quantizer(torch.zeros(3), torch.tensor(0.0)), torch.zeros(3))
    assert absmax(torch.zeros(0)) == 0


def test_a_stochastic_threshold_is_unbiased():
    from formats import Rounding
    from training.weights import Streams

    x, c, streams = torch.full((200_000,), 0.3137), torch.tensor(1.0), Streams(0)
    drawn = Clipped("INT4")(x, c, Rounding.STOCHASTIC, streams)
    assert len(drawn.unique()) == 2
    assert drawn.mean().item() == pytest.approx(0.3137, abs=5 * (1 / 7) / 2 / 200_000**0.5)
    assert not torch.equal(drawn, Clipped("INT4")(x, c, Rounding.STOCHASTIC, streams))
