"""Options that mean nothing."""

import pytest

from training.calibration import quantize


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": False}, "without folding there is nothing to equalize"),
        ({"weights": "NVFP4"}, "no single scale"),
        ({"absorb": "some"}, "absorb 'some': allowed are off, all, exact"),
        ({"weight_range": "cross-entropy"}, "it is for logits"),
        ({"percentile": 40}, "percentile 40"),
        ({"minibatches": 0}, "minibatches 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(workload, options, message):
    with pytest.raises(ValueError, match=message):
        quantize(workload, **options)
