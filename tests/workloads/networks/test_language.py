"""The text and the two language models on it."""

import math
import struct
import zlib

import pytest
import torch
import torch.nn.functional as F

from predictor.flow.dataflow import DataFlow
from workloads import load
from workloads.data import bible
from workloads.networks.language import LENGTH, LSTM, Transformer, bits_per_character, language_loss, to_batch, windows

MODELS = {"lstm": (LSTM, 372_095, 1.9600), "transformer": (Transformer, 429_407, 1.9455)}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_reach_their_bits_per_character(name):
    network, weights, reached = MODELS[name]
    workload = load(name)
    assert isinstance(workload.model, network)
    assert sum(p.numel() for p in workload.model.parameters()) == weights
    workload.model.eval()
    tests = workload.test(256)
    assert sum(y.numel() for _, y in tests) == bible.TEST - 1
    found = sum(workload.metric(workload.model, batch) for batch in tests) / len(tests)
    # As printed after pretraining: benchmarks/pretrain_lstm.txt, benchmarks/pretrain_transformer.txt.
    assert found == pytest.approx(reached, abs=1e-4)


def test_mini_batches_hold_every_window_once_and_come_from_all_over_the_text():
    workload = load("lstm")
    batches = workload.minibatches(64)
    assert len(batches) == 255
    symbols = bible.to_symbols(bible.read_bundled())
    own = windows(symbols[: -bible.TEST])[: 255 * 64]
    x, y = batches[3]
    assert x.shape == y.shape == (64, LENGTH)
    assert x.dtype is torch.int64
    assert torch.equal(x, own[3::255, :-1])
    assert torch.equal(y, own[3::255, 1:])
    assert torch.equal(torch.cat([x for x, _ in batches]).sum(), own[:, :-1].sum())
    again = load("lstm").minibatches(64)
    assert all(
        torch.equal(a, b) for one, other in zip(batches, again, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_windows_predict_every_character_but_the_first_once():
    text = torch.arange(1 + 5 * LENGTH)
    x, y = to_batch(windows(text))
    assert y.flatten().tolist() == text[1:].tolist()
    assert torch.equal(x + 1, y)
    assert len(windows(text[:-1])) == 4


@pytest.mark.parametrize("network", [LSTM, Transformer])
def test_models_see_only_what_came_before(network):
    torch.manual_seed(0)
    model = network(bible.SYMBOLS).eval()
    x = torch.randint(bible.SYMBOLS, (3, LENGTH))
    changed = x.clone()
    changed[:, 40:] = torch.randint(bible.SYMBOLS, (3, LENGTH - 40))
    a, b = model(x), model(changed)
    assert a.shape == (3, LENGTH, bible.SYMBOLS)
    torch.testing.assert_close(a[:, :40], b[:, :40])
    assert (a[:, 40:] - b[:, 40:]).abs().amax() > 0.01
    torch.testing.assert_close(model(x[:, :10]), a[:, :10])


def test_loss_and_bits_of_a_model_that_knows_nothing():
    class Uniform(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(*x.shape, 8)

    batch = torch.zeros(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64)
    assert language_loss(Uniform(), batch).item() == pytest.approx(math.log(8))
    assert bits_per_character(Uniform(), batch) == pytest.approx(3)


def points_of(model):
    flow = DataFlow(model)
    with flow:
        F.cross_entropy(
            model(torch.zeros(2, LENGTH, dtype=torch.int64)).flatten(0, 1), torch.zeros(2 * LENGTH, dtype=torch.int64)
        )
    return [point.operation for point in flow.points]


def test_points_of_the_lstm():
    # Embedding; in each layer x.W_ih once, and at each step h.W_hh, the sum, four gates, c, tanh(c) and h; the output.
    found = points_of(LSTM(bible.SYMBOLS))
    step = ["linear", "add", "sigmoid", "sigmoid", "tanh", "sigmoid", "add", "tanh", "mul"]
    assert found == ["embedding", *(["linear", *step * LENGTH] * 2), "linear"]


def test_points_of_the_transformer():
    # Of characters (those of places do not depend on the input), and the sum with places; in each layer normalization,
    # q k v, q.k, softmax, .v, output, sum, normalization, linear, GELU, linear, sum.
    attention = ["layer_norm", "linear", "matmul", "softmax", "matmul", "linear", "add"]
    found = points_of(Transformer(bible.SYMBOLS))
    assert found == [
        "embedding",
        "add",
        *([*attention, "layer_norm", "linear", "gelu", "linear", "add"] * 2),
        "layer_norm",
        "linear",
    ]


def test_the_bundled_text_is_plain_english():
    text = bible.read_bundled()
    assert len(text) == bible.BUNDLED_TRAIN + bible.TEST
    symbols = bible.to_symbols(text)
    assert (symbols.min(), symbols.max()) == (0, ord("z") - ord(" "))
    assert "In the beginning was the Word, and the Word was with God, and the Word was God." in text
    assert "<" not in text
    assert "  " not in text
    with pytest.raises(ValueError, match="characters outside of ' ' to '~'"):
        bible.to_symbols("naïve")


def module(folder, parts):
    """A SWORD zText module whose testaments are these lists of blocks."""
    for name, texts in parts.items():
        index, data = b"", b""
        for text in texts:
            block = zlib.compress(text.encode())
            index += struct.pack("<III", len(data), len(block), len(text))
            data += block
        (folder / f"{name}.bzs").write_bytes(index)
        (folder / f"{name}.bzz").write_bytes(data)


MARKED = (
    '<title type="main">Jonah</title> <w lemma="x">Now</w> <w>God</w>’s<note n="1">or: <reference>the</reference> '
    "word</note> <l>word—“came”</l><l>to</l> ה"
)


def test_the_text_without_markup(tmp_path, monkeypatch):
    module(tmp_path, {"ot": [MARKED, " Jonah."], "nt": ["<chapter/>The end"]})
    monkeypatch.setenv("FORMATS_DATA", str(tmp_path))
    assert bible.read_full() == 'Now God\'s word-"came" to Jonah. The end'
    (tmp_path / "nt.bzz").write_bytes(b"not zlib")
    with pytest.raises(ValueError, match=r"nt\.bzz is damaged"):
        bible.read_full()
    (tmp_path / "nt.bzs").unlink()
    monkeypatch.setattr(bible, "DEBIAN_FOLDER", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="install Debian's sword-text-web or set FORMATS_DATA"):
        bible.read_full()
