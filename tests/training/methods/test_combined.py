"""Methods together."""

from dataclasses import replace

import pytest
import torch

from tests.training import small
from tests.training.methods.helper import started
from training.methods import (
    LSQ,
    SLB,
    Compensation,
    DistributionAdaptiveInt8,
    LSQPlus,
    Octo,
    UnifiedInt8,
    combine,
    quantized,
)


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
