"""Image folders, archives, CIFAR, and what becomes of an image before a network sees it."""

import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from tests.workloads.images import CIFAR10, write_cifar10, write_cifar100, write_folder
from workloads.data import cifar
from workloads.data.cifar import read_cifar
from workloads.data.images import Preprocessing, Reader, read_folder

PLAIN = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def pixels(images):
    return {name: np.asarray(images.read(number)) for number, name in enumerate(images.names)}


def zipped(folder, archive, prefix=""):
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, prefix + path.relative_to(folder).as_posix())
    return archive


def test_a_folder_of_classes(tmp_path):
    written = write_folder(tmp_path / "set", ["b", "a"], 3)
    (tmp_path / "set" / "a" / "notes.txt").write_text("no image")
    found = read_folder("mine", tmp_path / "set")
    assert found.classes == ("a", "b")
    assert found.test is None
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    read = pixels(found.train)
    assert read.keys() == written.keys()
    assert all((read[name] == written[name]).all() for name in written)


def test_parts_of_a_folder_and_of_an_archive(tmp_path):
    write_folder(tmp_path / "set" / "train", ["x", "y"], 2)
    held_out = write_folder(tmp_path / "set" / "val", ["y"], 1, seed=1)
    places = [
        tmp_path / "set",
        zipped(tmp_path / "set", tmp_path / "a.zip"),
        zipped(tmp_path / "set", tmp_path / "b.zip", "deep/"),
    ]
    for place in places:
        found = read_folder("mine", place)
        assert found.classes == ("x", "y")
        assert found.train.labels.tolist() == [0, 0, 1, 1]
        assert found.test.labels.tolist() == [1]
        assert (np.asarray(found.test.read(0)) == held_out["y/0.png"]).all()


def test_folders_that_are_none(tmp_path):
    def refused(place, message):
        with pytest.raises(ValueError, match=message):
            read_folder("mine", place)

    refused(tmp_path / "none", "a folder or a zip archive is needed, and there is nothing")
    refused(tmp_path, "mine: no images")
    write_folder(tmp_path / "flat", ["."], 1)
    refused(tmp_path / "flat", "0.png is in no class")
    write_folder(tmp_path / "more" / "train", ["x"], 1)
    write_folder(tmp_path / "more" / "test", ["z"], 1)
    refused(tmp_path / "more", "class z of test is not in train")
    write_folder(tmp_path / "bad", ["x"], 1)
    (tmp_path / "bad" / "x" / "0.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match=r"x/0\.png cannot be read as an image"):
        read_folder("mine", tmp_path / "bad").train.read(0)


def test_minibatches_are_mixed_and_the_same_every_time(tmp_path):
    write_folder(tmp_path / "set", ["a", "b"], 8, (4, 4))
    images = read_folder("mine", tmp_path / "set").train
    batches = Reader(images, PLAIN, "mine").train(5)
    again = Reader(images, PLAIN, "mine").train(5)[1:]
    assert len(batches) == 3
    assert len(again) == 2
    assert torch.equal(batches[2][0], again[1][0])
    assert torch.equal(batches[-1][1], batches[2][1])
    x, y = batches[0]
    assert x.shape == (5, 3, 4, 4)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert y.dtype is torch.int64
    assert {int(label) for _, labels in batches for label in labels} == {0, 1}
    first = int(np.random.default_rng(0).permutation(16)[0])
    assert torch.equal(x[0], torch.from_numpy(np.array(images.read(first))).permute(2, 0, 1).float() / 255)
    with pytest.raises(
        ValueError, match="mine has 16 images, fewer than a mini-batch of 17; give a smaller batch size"
    ):
        Reader(images, PLAIN, "mine").train(17)
    [(everything, _)] = Reader(images, PLAIN, "mine").test(17)
    assert len(everything) == 16


def test_images_of_different_sizes_need_a_resize(tmp_path):
    write_folder(tmp_path / "set" / "a", ["."], 1, (4, 4))
    write_folder(tmp_path / "set" / "b", ["."], 1, (4, 5))
    images = read_folder("mine", tmp_path / "set").train
    with pytest.raises(ValueError, match=r"different sizes, such as \(4, \d, 3\) and \(4, \d, 3\)"):
        Reader(images, PLAIN, "mine").train(2)[0]
    resized = Preprocessing((0.0,) * 3, (1.0,) * 3, resize=(4, 6), interpolation="nearest")
    assert Reader(images, resized, "mine").train(2)[0][0].shape == (2, 3, 4, 6)


def test_preprocessing():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 41, 3), np.uint8))
    # The shorter side to 20, the longer in proportion, rounded down; then the middle.
    small = np.asarray(image.resize((20, 29), Image.Resampling.BICUBIC))
    found = Preprocessing((0.0,) * 3, (1.0,) * 3, 20, (10, 16), "bicubic").pixels(image)
    assert (found == small[round(19 / 2) : round(19 / 2) + 10, 2:18]).all()
    wide = Preprocessing((0.0,) * 3, (1.0,) * 3, crop=(60, 45)).pixels(image)
    assert (wide[:, 2:43] == np.asarray(image)).all()
    assert not wide[:, :2].any()
    normalized = Preprocessing((0.5, 0.25, 0.0), (0.5, 0.25, 2.0)).to_input(np.full((1, 2, 2, 3), 255, np.uint8))
    assert normalized[0, :, 0, 0].tolist() == [1.0, 3.0, 0.5]


def test_cifar10_as_it_is_published(tmp_path):
    written, labels = write_cifar10(tmp_path / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    for place in (tmp_path / "cifar-10-batches-py", tmp_path, tmp_path / "c.tar.gz"):
        found = read_cifar("cifar10", place)
        assert found.classes == tuple(CIFAR10)
        assert found.train.labels.tolist() == labels
        assert (np.stack([np.asarray(found.train.read(n)) for n in range(20)]) == written).all()
        assert len(found.test.labels) == 4
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(ValueError, match="lacks data_batch_3"):
        read_cifar("cifar10", tmp_path)


def test_cifar100_has_its_fine_labels(tmp_path):
    write_cifar100(tmp_path / "c.tar.gz", tmp_path / "own")
    found = read_cifar("cifar100", tmp_path / "c.tar.gz")
    assert found.train.labels.tolist() == [90, 91, 92, 93, 94, 95]
    assert found.classes[90] == "090"
    assert np.asarray(found.train.read(0))[0, :3, 0].tolist() == [0, 1, 2]


def test_cifar10_as_images(tmp_path):
    write_folder(tmp_path / "set" / "train", CIFAR10, 1, (32, 32), ending="jpg")
    assert read_cifar("cifar10", zipped(tmp_path / "set", tmp_path / "c.zip")).classes == tuple(CIFAR10)
    with pytest.raises(ValueError, match="has 10 classes; cifar100 has 100"):
        read_cifar("cifar100", tmp_path / "set")


class Runs:
    def __reduce__(self):
        return os.mkdir, ("made by a pickle",)


def test_nothing_in_a_pickle_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "c")
    for content, message in (
        (pickle.dumps({"data": Runs()}), r"test_batch is no file of CIFAR's python version \(it asks for posix.mkdir"),
        (b"not a pickle", "is no file of CIFAR's python version"),
        (pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [1, 2]}, 2), "`data` of 3072 bytes"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]}, 2), "a label from 0 to 9"),
        (pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [1, 2]}, 2), "a byte a pixel"),
    ):
        (tmp_path / "c" / "test_batch").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_cifar("cifar10", tmp_path / "c")
    assert not (tmp_path / "made by a pickle").exists()


def test_cifar_that_is_nowhere_or_not_the_published_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FORMATS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORMATS_DATA", raising=False)
    served = tmp_path / "served"
    monkeypatch.setattr(cifar, "PUBLIC_ADDRESS", served.as_uri())
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded .*give its place as cifar10:PATH or set FORMATS_DATA"
    ):
        read_cifar("cifar10", None)
    served.mkdir()
    write_cifar10(tmp_path / "c")
    with tarfile.open(fileobj=(content := io.BytesIO()), mode="w:gz") as archive:
        archive.add(tmp_path / "c", "cifar-10-batches-py")
    (served / "cifar-10-python.tar.gz").write_bytes(content.getvalue())
    with pytest.raises(FileNotFoundError, match="not the published file"):
        read_cifar("cifar10", None)
    monkeypatch.setenv("FORMATS_DATA", str(served))
    assert len(read_cifar("cifar10", None).train.labels) == 20


@pytest.mark.parametrize(
    "beside",
    [
        "__MACOSX/a/._0.png",
        ".ipynb_checkpoints/0.png",
        "@eaDir/0.png",
        ".Trash/b/0.png",
        "a/._0.png",
        "a/.thumbs/0.png",
    ],
)
def test_folders_of_systems_and_hidden_files_are_no_images(tmp_path, beside):
    write_folder(tmp_path, ["a", "b"], 2)
    (tmp_path / beside).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / beside).write_bytes((tmp_path / "b" / "1.png").read_bytes())
    found = read_folder("imagefolder", tmp_path)
    assert found.classes == ("a", "b")
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(tmp_path.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path).as_posix())
    found = read_folder("imagefolder", tmp_path / "all.zip")
    assert found.classes == ("a", "b")
    assert found.train.labels.tolist() == [0, 0, 1, 1]


def test_folders_that_link_to_themselves_are_gone_through_once(tmp_path):
    write_folder(tmp_path, ["a", "b"], 2)
    for name, target in (("loop", "."), ("up", ".."), ("other", "../a")):
        (tmp_path / "b" / name).symlink_to(target)
    assert read_folder("imagefolder", tmp_path).train.labels.tolist() == [0, 0, 1, 1]


def test_a_class_may_be_a_link(tmp_path):
    write_folder(tmp_path / "there", ["a", "b"], 2)
    (tmp_path / "here").mkdir()
    for name in ("a", "b"):
        (tmp_path / "here" / name).symlink_to(tmp_path / "there" / name)
    assert read_folder("imagefolder", tmp_path / "here").train.labels.tolist() == [0, 0, 1, 1]


def test_greys_of_16_bits_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    (tmp_path / "a").mkdir()
    Image.fromarray(ramp).save(tmp_path / "a" / "0.png")
    pixels = np.asarray(read_folder("imagefolder", tmp_path).train.read(0))
    assert np.array_equal(pixels[..., 0], ramp >> 8)
    assert pixels.mean() == pytest.approx(127, abs=1)


def test_pixels_of_no_known_range_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a" / "0.png", format="TIFF")
    with pytest.raises(ValueError, match=r"a/0\.png cannot be read as an image: it has pixels of mode F"):
        read_folder("imagefolder", tmp_path).train.read(0)


@pytest.mark.parametrize("damage", ["flipped", "encrypted", "method"])
def test_damaged_members_of_archives_are_a_line(tmp_path, damage):
    write_folder(tmp_path / "images", ["a"], 1)
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "images" / "a" / "0.png", "a/0.png")
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    if damage == "flipped":
        content[60] ^= 1
    elif damage == "encrypted":
        content[6] |= 1
        content[central + 8] |= 1
    else:
        content[8] = content[central + 10] = 99
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a/0\.png cannot be read as an image"):
        read_folder("imagefolder", path).train.read(0)


def test_a_name_that_comes_twice_in_an_archive_is_refused(tmp_path):
    write_folder(tmp_path / "images", ["a"], 2)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.write(tmp_path / "images" / "a" / "0.png", "a/0.png")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(tmp_path / "images" / "a" / "1.png", "a/0.png")
    with pytest.raises(ValueError, match=r"twice\.zip: a/0\.png comes twice in it"):
        read_folder("imagefolder", tmp_path / "twice.zip")


def test_what_is_no_file_is_no_image_and_nothing_waits(tmp_path):
    write_folder(tmp_path / "set", ["a"], 1)
    os.mkfifo(tmp_path / "set" / "a" / "1.png")
    (tmp_path / "set" / "a" / "2.png").symlink_to("2.png")
    (tmp_path / "set" / "a" / "3.png").symlink_to("0.png")
    images = read_folder("imagefolder", tmp_path / "set").train
    for number, message in ((1, "it is no file"), (2, "it is a link to nothing, or unreadable")):
        with pytest.raises(ValueError, match=rf"a/{number}\.png cannot be read as an image: {message}"):
            images.read(number)
    assert np.array_equal(np.asarray(images.read(0)), np.asarray(images.read(3)))


def test_an_image_that_claims_more_than_a_machine_has(tmp_path):
    write_folder(tmp_path / "set", ["a"], 1)
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "set" / "a" / "0.png", "a/0.png")
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = b"\xf0\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="up to 1073741824 are read"):
        read_folder("imagefolder", path).train.read(0)


def test_archives_in_archives_are_no_images(tmp_path):
    write_folder(tmp_path / "set", ["a"], 1)
    inner = zipped(tmp_path / "set", tmp_path / "inner.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "a/inner.zip")
    with pytest.raises(ValueError, match="no images"):
        read_folder("imagefolder", tmp_path / "outer.zip")


@pytest.mark.parametrize("kind", [">u2", "<u2"])
def test_greys_of_16_bits_in_either_order(tmp_path, kind):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(kind)
    (tmp_path / "a").mkdir()
    Image.fromarray(ramp).save(tmp_path / "a" / "0.png", format="TIFF")
    pixels = np.asarray(read_folder("imagefolder", tmp_path).train.read(0))
    assert np.array_equal(pixels[..., 1], (ramp.astype(np.int64) >> 8).astype(np.uint8))


@pytest.mark.parametrize(
    ("train", "test"),
    [("training", "testing"), ("Train", "Test"), ("TRAIN", "Validation"), ("train", "dev"), ("Training", "eval")],
)
def test_parts_under_any_usual_name(tmp_path, train, test):
    write_folder(tmp_path / "a" / "b" / train, ["x", "y"], 2)
    write_folder(tmp_path / "a" / "b" / test, ["y"], 1)
    found = read_folder("mine", tmp_path)
    assert found.classes == ("x", "y")
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == ([0, 0, 1, 1], [1])


def test_parts_and_classes_are_not_mixed(tmp_path):
    write_folder(tmp_path / "set" / "train", ["x"], 1)
    write_folder(tmp_path / "set", ["pictures"], 1)
    with pytest.raises(ValueError, match="train holds classes, and pictures lies beside it"):
        read_folder("mine", tmp_path / "set")
    write_folder(tmp_path / "two" / "train", ["x"], 1)
    write_folder(tmp_path / "two" / "Training", ["x"], 1)
    with pytest.raises(ValueError, match="Training and train are both for training"):
        read_folder("mine", tmp_path / "two")
    write_folder(tmp_path / "vehicles", ["bus", "train"], 1)  # a class of its own
    assert read_folder("mine", tmp_path / "vehicles").classes == ("bus", "train")


def test_a_png_whose_end_is_missing_is_refused(tmp_path):
    write_folder(tmp_path, ["a"], 1)
    path = tmp_path / "a" / "0.png"
    path.write_bytes(path.read_bytes()[:-16])  # the end, and the checksum before it
    with pytest.raises(ValueError, match=r"a/0\.png cannot be read as an image"):
        read_folder("imagefolder", tmp_path).train.read(0)


@pytest.mark.parametrize("name", [b"a/0.pnh", b"a/0.pn/", b"./0.png", b"\x00/0.png"])
def test_an_image_whose_name_was_damaged_is_not_passed_over(tmp_path, name):
    write_folder(tmp_path / "images", ["a", "b"], 1)
    content = zipped(tmp_path / "images", tmp_path / "set.zip").read_bytes()
    at = content.rindex(b"a/0.png")
    (tmp_path / "set.zip").write_bytes(content[:at] + name + content[at + 7 :])
    with pytest.raises(ValueError, match=r"set\.zip cannot be read as a zip archive: File name in directory"):
        read_folder("imagefolder", tmp_path / "set.zip")
