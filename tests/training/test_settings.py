"""Settings: what is refused, and the keywords that hand them on."""

import inspect
from dataclasses import MISSING, fields

import pytest

from tests.training import small
from training import train, validate
from training.settings import TrainingKeywords, TrainingSettings


def test_names_and_numbers_that_mean_nothing_are_refused():
    for options, message in (
        ({"optimizer": "adam"}, "optimizer 'adam': allowed are sgd, adamw"),
        ({"schedule": "up"}, "schedule 'up': allowed are constant, cosine, steps"),
        ({"start": "here"}, "start 'here': allowed are scratch, pretrained"),
        ({"scale": "late"}, "scale 'late': allowed are delayed, current"),
        ({"weight_rounding": "up-ish"}, "weight rounding 'up-ish': allowed are"),
        ({"seed": 2**64}, "seed 18446744073709551616: a whole number from 0 to"),
        ({"epochs": 0}, "epochs 0: a whole number of at least 1"),
        ({"rate": float("nan")}, "rate nan"),
        ({"error": "FP999"}, "unknown format 'FP999'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(small.workload(), **{"epochs": 1, **options})
    with pytest.raises(TypeError, match="speed"):
        train(small.workload(), epochs=1, speed=3)


def test_keywords_are_written_alike():
    """train, its settings and what validate hands on name the same things, with the same defaults."""
    of_train = inspect.signature(train).parameters
    own = {entry.name: entry.default for entry in fields(TrainingSettings)}
    assert {name: of_train[name].default for name in own} | {"epochs": MISSING} == own
    handed_on = set(TrainingKeywords.__annotations__)
    assert handed_on <= set(of_train)
    assert handed_on >= own.keys() - set(inspect.signature(validate).parameters) - {"seed"}
    assert not handed_on & {"epochs", "seed", "progress", "output"}
