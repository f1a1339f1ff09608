"""What TensorBoard reads of a run."""

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training import small
from training import train


def scalars(folder):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_steps_and_epochs_are_there_once_after_a_resume(tmp_path):
    class Stop(Exception):
        pass

    def stop(at):
        if at.done == 10:
            raise Stop

    options = {"epochs": 2, "rate": 0.05, "angle_every": 4, "output": tmp_path, "tensorboard": True, "resume": True}
    with pytest.raises(Stop):
        train(small.workload(), progress=stop, **options)
    found = train(small.workload(), **options)
    seen = scalars(tmp_path)
    of_a_step = ("angle", "flip_rate", "layer_angle", "loss", "oscillation", "overflows", "rate", "underflows")
    assert sorted(seen) == ["epoch/loss", "epoch/metric", *(f"step/{name}" for name in of_a_step)]
    assert [step for step, _ in seen["step/loss"]] == list(range(1, 17))
    assert [value for _, value in seen["step/loss"]] == pytest.approx(found.steps.loss.tolist())
    assert [step for step, _ in seen["step/angle"]] == [1, 5, 9, 13]
    assert [step for step, _ in seen["epoch/metric"]] == [8, 16]


def test_without_the_package_or_a_folder(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="tensorboard needs an output"):
        train(small.workload(), epochs=1, tensorboard=True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"numeric-formats\[tensorboard\]"):
        train(small.workload(), epochs=1, tensorboard=True, output=tmp_path)
