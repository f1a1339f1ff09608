"""Checkpoints: which are refused, and what a full disk leaves."""

import errno
import os
from pathlib import Path

import pytest
from torch import nn

from tests.training import small
from tests.training.runs import assert_same_run
from training import checkpoint, train


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    options = {"epochs": 1, "output": tmp_path}
    train(small.workload(), **options)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(FileExistsError, match="use --resume to go on from it or --force"):
        train(small.workload(), **options)
    for changed, message in (
        ({"error": "FP143"}, "made with error 'FP134', not 'FP143'"),
        ({"seed": 1}, "made with seed 0, not 1"),
        ({"weight_rounding": "nearest"}, "made with weight_rounding 'hysteresis', not 'nearest'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(small.workload(), **options, resume=True, **changed)
    with pytest.raises(ValueError, match="made with first_batch"):
        train(small.workload(scale=2.0), **options, resume=True)
    with pytest.raises(ValueError, match="made with batches 8, not 9"):
        train(small.workload(9), **options, resume=True)
    other = small.workload()
    nn.init.zeros_(other.model[0].weight)
    with pytest.raises(ValueError, match="made with weights"):
        train(other, **options, resume=True)
    content = path.read_bytes()
    for cut in (0, 5, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="is cut short or no checkpoint") as caught:
            train(small.workload(), **options, resume=True)
        assert "\n" not in str(caught.value)
    train(small.workload(), **options, force=True)
    (tmp_path / "steps.parquet").unlink()
    with pytest.raises(ValueError, match=r"steps.parquet cannot be read"):
        train(small.workload(), **options, resume=True)


@pytest.mark.parametrize("failing", range(4), ids=["layers", "steps", "epochs", "checkpoint"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, failing):
    """Each file of the second checkpoint in turn is the one that does not fit."""
    options = {"epochs": 1, "checkpoint_every": 3}
    whole = train(small.workload(), output=tmp_path / "whole", **options)
    output, calls, fsync = tmp_path / "full", 0, os.fsync

    def fail(handle):
        nonlocal calls
        calls += 1
        if calls == 1 + 4 + failing + 1:  # after the settings and the first checkpoint's four
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        train(small.workload(), output=output, **options)
    assert Path(caught.value.filename).is_relative_to(output)
    assert checkpoint.read(output / checkpoint.NAME)[1]["step"] == 3
    assert_same_run(whole, train(small.workload(), output=output, resume=True, **options))
