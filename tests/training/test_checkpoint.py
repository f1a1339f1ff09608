"""Checkpoints: which are refused, and what a full disk leaves."""

import errno
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
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
    with pytest.raises(ValueError, match=r"made with another data \(SHA-256 .*start with --force$"):
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


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run with a checkpoint in the middle of an epoch: its folder and its options."""
    folder = tmp_path_factory.mktemp("begun")
    options = {"epochs": 1, "checkpoint_every": 3, "optimizer": "adamw"}
    with pytest.raises(KeyboardInterrupt):
        train(small.workload(), output=folder, progress=ending_at(5), **options)
    return folder, options


def ending_at(step):
    def show(progress):
        if progress.done == step:
            raise KeyboardInterrupt

    return show


def refused(folder, options, workload=None):
    """What resuming says, which leaves all files as they are."""
    before = files(folder)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        train(workload or small.workload(), output=folder, resume=True, **options)
    assert files(folder) == before
    return str(caught.value)


def shared(**changed):
    """The same workload with one thing changed."""
    return replace(small.workload(), **changed)


def weighted_loss(model, batch):
    return 1.0 * small.loss(model, batch)


def changed_batch(number, change):
    data = list(small.workload().batches)
    data[number] = change(*data[number])
    return data


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batches": changed_batch(7, lambda x, y: (x, y.roll(1)))}, "another data"),
        ({"batches": changed_batch(1, lambda x, y: (x.flip(0), y))}, "another data"),
        ({"batches": changed_batch(4, lambda x, y: (x.mT.contiguous().mT, y))}, "another data"),
        ({"loss": weighted_loss}, "another loss"),
        ({"metric": lambda model, batch: 0.5}, "another metric"),
        ({"test": [small.images(128, 3)]}, "another test data"),
    ],
    ids=["labels of the last", "order in the second", "strides", "loss", "metric", "test data"],
)
def test_a_run_goes_on_with_the_data_and_code_that_it_began_with(begun, changed, message):
    assert message in refused(*begun, shared(**changed))


def test_a_run_goes_on_with_the_network_and_torch_that_it_began_with(begun, monkeypatch):
    other = small.workload()
    other.model[2].register_forward_hook(lambda module, args, output: 2 * output)
    assert "another network" in refused(*begun, other)
    frozen = small.workload()
    frozen.model[0].bias.requires_grad_(False)
    assert "another network" in refused(*begun, frozen)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert "made with torch" in refused(*begun)
    monkeypatch.undo()
    monkeypatch.setattr("training.reproducible.VERSION", "9.9.9")
    assert "made with numeric-formats '" in refused(*begun)


def test_mini_batches_that_are_drawn_when_asked_for_are_the_same_each_time(tmp_path):
    class Drawn(list):
        def __getitem__(self, number):
            x, y = super().__getitem__(number)
            return x + 0.01 * torch.randn(x.shape), y

        def __iter__(self):
            return (self[number] for number in range(len(self)))

    data = Drawn(small.workload().batches)
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        train(shared(batches=data), epochs=1, checkpoint_every=2, output=tmp_path, progress=ending_at(5))
    state = torch.get_rng_state()
    train(shared(batches=data), epochs=1, checkpoint_every=2, output=tmp_path, resume=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_changed_bit_is_read(begun):
    """Anywhere in the file: in its header, in the state, in tensors."""
    folder, _ = begun
    path = folder / checkpoint.NAME
    whole, chosen = path.read_bytes(), random.Random(0)
    try:
        for place in [*range(8), *(chosen.randrange(len(whole)) for _ in range(300))]:
            changed = bytearray(whole)
            changed[place] ^= 1 << chosen.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=r"(is damaged|is cut short or no checkpoint).*start with --force$"):
                checkpoint.read(path)
        path.write_bytes(b"")
        assert "is cut short or no checkpoint" in refused(*begun)
    finally:
        path.write_bytes(whole)


STATE = {
    **{name: ("missing", None, "text", []) for name in ("step", "epochs", "settings", "groups", "schedule", "log")},
    **{name: ("missing", None, [1]) for name in ("stream", "tops", "method")},
}
EDITED = [
    *((name, value) for name, values in STATE.items() for value in values),
    *(("step", value) for value in (-3, 0, 4, 9, 3.0, True, 10**30)),
    *(("stream", value) for value in ("5", float("nan"), {})),
    *(("tops", value) for value in ({}, {"A": [], "E": [["x", 0]], "G": []}, {"A": 1, "E": 2, "G": 3})),
    *(("epochs", value) for value in ([{}], [{"epoch": 1, "loss": 1.0, "metric": None}], [3])),
]


@pytest.mark.parametrize(("name", "value"), [pair for pair in EDITED if pair != ("epochs", [])])
def test_a_state_of_another_kind_is_one_line(begun, name, value):
    """Written as a checkpoint is, so that its checksum is right."""
    folder, options = begun
    path = folder / checkpoint.NAME
    whole = path.read_bytes()
    tensors, state = checkpoint.read(path)
    if value == "missing":
        del state[name]
    else:
        state[name] = value
    checkpoint.write(path, tensors, state)
    try:
        assert str(folder) in refused(folder, options)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("group", "value"), [("lr", float("nan")), ("lr", "0.1"), ("betas", [0.9]), ("params", [0]), ("name", 3)]
)
def test_numbers_of_the_optimizer_of_another_kind(begun, group, value):
    folder, options = begun
    path = folder / checkpoint.NAME
    whole = path.read_bytes()
    tensors, state = checkpoint.read(path)
    state["groups"][0][group] = value
    checkpoint.write(path, tensors, state)
    try:
        assert "groups" in refused(folder, options)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["generator", "master.0.weight", "network.3.weight"])
@pytest.mark.parametrize("value", [None, torch.zeros(3, dtype=torch.float64)])
def test_tensors_that_are_missing_or_of_another_kind(begun, name, value):
    folder, options = begun
    path = folder / checkpoint.NAME
    whole = path.read_bytes()
    tensors, state = checkpoint.read(path)
    checkpoint.write(
        path, {key: t for key, t in tensors.items() if key != name} | ({} if value is None else {name: value}), state
    )
    try:
        assert str(path) in refused(folder, options)
    finally:
        path.write_bytes(whole)


def loss_of_a_step(folder):
    table = pd.read_parquet(folder / "steps.parquet")
    table.loc[1, "loss"] += 1e-6
    table.to_parquet(folder / "steps.parquet", index=False)


def layer_of_a_step(folder):
    path = folder / "layers" / "00000003.parquet"
    path.write_bytes(path.read_bytes().replace(b"0.weight", b"9.weight"))


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (loss_of_a_step, "steps.parquet is damaged"),
        (layer_of_a_step, "layers is damaged"),
        (lambda folder: (folder / "layers" / "00000003.parquet").unlink(), "layers is damaged"),
        (lambda folder: (folder / "steps.parquet").write_bytes(b"PAR1"), "steps.parquet cannot be read"),
    ],
    ids=["a loss", "a layer", "no layers", "no table"],
)
def test_rows_before_the_checkpoint_are_as_they_were_written(begun, damage, place):
    folder, options = begun
    before = files(folder)
    damage(folder)
    try:
        assert place in refused(folder, options)
    finally:
        for name, content in before.items():
            (folder / name).write_bytes(content)


def test_force_removes_an_earlier_run_only_once_the_new_one_can_begin(begun):
    folder, options = begun
    before = files(folder)
    nothing = small.workload()
    nothing.model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the network requires a gradient"):
        train(nothing, output=folder, force=True, **options)
    assert files(folder) == before


def test_the_state_of_a_run_is_written_with_its_checksum(begun):
    _, state = checkpoint.read(begun[0] / checkpoint.NAME)
    assert (state["step"], state["settings"]["batches"], len(state["settings"]["data_digest"])) == (3, 8, 64)
    json.dumps(state)
