"""Formats for dumped tensors."""

import io
import struct
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import formats
from predictor.gradient.noise import direct_nsr, has_table
from search.fitting import fit, read_dump, read_tensors
from search.knapsack import Constraints


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return {"a": torch.randn(64, 50), "b": torch.randn(3000) ** 5, "c": torch.randn(2, 3, 7, 5).relu()}


def test_every_kind_of_file(tmp_path, tensors):
    arrays = {name: value.numpy() for name, value in tensors.items()}
    np.savez(
        tmp_path / "t.npz",
        half=arrays["a"].astype(np.float16),
        wide=arrays["b"].astype(np.float64),
        big=arrays["a"].astype(">f4"),
    )
    read = read_tensors(tmp_path / "t.npz")
    assert {value.dtype for value in read.values()} == {torch.float32}
    assert torch.equal(read["half"], tensors["a"].half().float())
    assert torch.equal(read["wide"], tensors["b"])
    assert torch.equal(read["big"], tensors["a"])
    np.save(tmp_path / "one.npy", arrays["c"])
    assert torch.equal(read_tensors(tmp_path / "one.npy")["one"], tensors["c"])
    save_file({"x": tensors["a"].bfloat16()}, tmp_path / "t.safetensors")
    assert torch.equal(read_tensors(tmp_path / "t.safetensors")["x"], tensors["a"].bfloat16().float())


def test_types_that_numpy_does_not_keep(tmp_path):
    values = np.linspace(-3, 3, 64, dtype=np.float32)
    kinds = {"b": ml_dtypes.bfloat16, "f": ml_dtypes.float8_e4m3fn, "e": ml_dtypes.float8_e5m2}
    arrays = {name: values.astype(kind) for name, kind in kinds.items()}
    np.savez(tmp_path / "b.npz", b=arrays["b"], a=values)
    np.save(tmp_path / "one.npy", arrays["b"].reshape(8, 8).T)
    expected = torch.from_numpy(arrays["b"].astype(np.float32))
    found = read_dump(tmp_path / "b.npz")
    assert torch.equal(found.tensors["b"], expected)
    assert torch.equal(expected, torch.from_numpy(values).bfloat16().float())
    assert torch.equal(found.tensors["a"], torch.from_numpy(values))
    assert (found.left_out, found.assumed) == ((), ("b (|V2, read as bfloat16)",))
    assert torch.equal(read_tensors(tmp_path / "one.npy")["one"], expected.reshape(8, 8).T)
    for name in ("f", "e"):
        np.savez(tmp_path / "f.npz", a=values, **{name: arrays[name]})
        with pytest.raises(ValueError, match=r"f.npz.* save .* as float32 or in a .safetensors"):
            read_dump(tmp_path / "f.npz")


def test_other_arrays_beside_them_are_left_out(tmp_path):
    values = np.linspace(-3, 3, 64, dtype=np.float32)
    others = {"step": np.int64(5), "mask": values > 0, "text": np.array("name"), "pair": np.zeros(2, "f4,i4")}
    np.savez(tmp_path / "m.npz", a=values, **others)
    found = read_dump(tmp_path / "m.npz")
    assert set(found.tensors) == {"a"}
    assert [entry.partition(" ")[0] for entry in found.left_out] == list(others)
    assert found.left_out[:2] == ("step (int64)", "mask (bool)")
    save_file({"a": torch.from_numpy(values), "ids": torch.arange(4)}, tmp_path / "m.safetensors")
    assert read_dump(tmp_path / "m.safetensors").left_out == ("ids (torch.int64)",)
    np.savez(tmp_path / "c.npz", a=values, c=np.ones(4, np.complex64))
    with pytest.raises(ValueError, match="array 'c' is of complex64; save its real and imaginary parts"):
        read_dump(tmp_path / "c.npz")


def test_ranks_by_the_mean_noise(tensors):
    found = fit(tensors)
    table = found.table.set_index("name")
    assert set(table.index) == {f.name for f in formats.catalogue(8)} | set(table.index[table.role == "synthesized"])
    assert found.tensors == 3
    for name in ("FP134", "INT8", "BM43", found.table.name[0]):
        ratios = {key: direct_nsr(formats.get(name), value) for key, value in tensors.items()}
        assert table.nsr_mean[name] == pytest.approx(np.mean(list(ratios.values())), rel=1e-5)
        assert table.nsr_worst[name] == pytest.approx(max(ratios.values()), rel=1e-5)
        assert table.worst[name] == max(ratios, key=ratios.get)
    assert found.table.nsr_mean.is_monotonic_increasing
    synthesized = table[table.role == "synthesized"].iloc[0]
    assert all(
        synthesized.nsr_mean <= table.nsr_mean[f.name] * (1 + 1e-12) for f in formats.catalogue(8) if has_table(f)
    )


def test_chosen_formats_and_constraints(tensors):
    found = fit(tensors, ["FP134", "E4M3", "MXFP4", "INT16"], 5, Constraints(runs=1))
    table = found.table.set_index("name")
    assert table.role.to_dict() | {"FP134": "given"} == table.role.to_dict()
    assert len(table) == 5
    made = table[table.role == "synthesized"].iloc[0]
    assert (made.bits, "," in made.profile) == (5, False)
    assert table.nsr_mean["E4M3"] == pytest.approx(
        np.mean([direct_nsr(formats.get("E4M3"), x) for x in tensors.values()])
    )


class Losing:
    """A format that makes no number of any."""

    name, digest = "losing", "losing-1"

    def round(self, x):
        return x * float("nan")


def test_a_format_that_loses_everything_is_last(tensors):
    table = fit(tensors, [Losing(), "INT8"]).table
    assert (table.name.iloc[-1], table["rank"].iloc[-1]) == ("losing", 3)


def test_what_is_not_a_number_is_ignored(tensors):
    damaged = {name: value.clone() for name, value in tensors.items()}
    damaged["a"][0, 0], damaged["a"][0, 1] = float("nan"), float("inf")
    mended = {name: value.clone() for name, value in tensors.items()}
    mended["a"][0, :2] = 0
    found = fit(damaged | {"z": torch.zeros(5), "e": torch.zeros(0)}, ["FP134", "BM43"])
    assert (found.ignored, found.zero, found.tensors) == (2, ("z", "e"), 3)
    assert found.table.equals(fit(mended, ["FP134", "BM43"]).table)


def test_refusals(tmp_path, tensors):
    def written(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    np.savez(tmp_path / "none.npz")
    np.savez(tmp_path / "whole.npz", i=np.arange(3))
    np.savez(tmp_path / "objects.npz", o=np.array([None, 1], object))
    save_file({}, tmp_path / "none.safetensors")
    save_file({"i": torch.arange(3)}, tmp_path / "whole.safetensors")
    for path, message in (
        (tmp_path / "none.npz", "holds no array"),
        (tmp_path / "none.safetensors", "holds no array"),
        (tmp_path / "whole.npz", "array 'i' is of int64; floating-point"),
        (tmp_path / "whole.safetensors", r"array 'i' is of torch\.int64; floating-point"),
        (tmp_path / "objects.npz", "cannot be read as npz"),
        (written("empty.npz", b""), "cannot be read as npz"),
        (written("empty.npy", b""), "cannot be read as npy"),
        (written("cut.npz", (tmp_path / "whole.npz").read_bytes()[:60]), "cannot be read as npz"),
        (written("cut.safetensors", b"123"), "cannot be read as safetensors"),
        (tmp_path / "t.pt", r"read from \.npz, \.npy, \.safetensors"),
    ):
        with pytest.raises(ValueError, match=message):
            read_tensors(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_tensors(tmp_path / "absent.npz")
    for given, message in (
        ({}, "no tensor was given"),
        ({"n": torch.full((3,), float("nan"))}, "tensor 'n' holds no finite number"),
        ({"z": torch.zeros(3)}, "nothing but zeros"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(given)
    with pytest.raises(ValueError, match=r"FP134\+FP143 is a pair"):
        fit(tensors, ["FP134+FP143"])


def npy(shape, content=b"", kind="<f4"):
    """A file of numpy's form that says so."""
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def zipped(members):
    """An .npz of members as they are."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return made.getvalue()


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        ("npy", npy((1 << 45,)), "Unable to allocate|cannot"),
        ("npy", npy((2,), bytes(4)), "."),
        ("npy", npy((2,), bytes(12)), "goes on after its array"),
        ("npy", npy((1,), bytes(4)).replace(b"}", b"("), "."),
        ("npy", npy("[" * 500), "."),
        ("npz", zipped([("a.npy", npy((1 << 45,)))]), "Unable to allocate|cannot"),
        ("npz", zipped([("a.npy", npy((1,), bytes(8)))]), "goes on after its array"),
        ("npz", zipped([("a.npy", npy((1,), bytes(4))), ("notes.txt", b"no array")]), "'notes.txt' is no array"),
        ("npz", zipped([("a.npy", npy((1,), bytes(4)))] * 2), "holds 'a' twice"),
        ("npz", zipped([("a.npy", npy((1,), bytes(4)))]).replace(b"\x93NUMPY", b"\x93NUMPX"), "CRC"),
    ],
)
def test_damaged_tensors_are_a_line(tmp_path, ending, content, message):
    path = tmp_path / f"t.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"t\.{ending} cannot be read as {ending}: .*({message})") as raised:
        read_tensors(path)
    assert "\n" not in str(raised.value)


def test_a_flipped_bit_of_a_header_in_an_archive_is_seen(tmp_path):
    np.savez(tmp_path / "t.npz", a=np.arange(9, dtype=np.float32))
    content = (tmp_path / "t.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(content.replace(b"(9,)", b"(8,)"))
    with pytest.raises(ValueError, match="Bad CRC-32"):
        read_tensors(tmp_path / "t.npz")
