"""Situations of public models, ONNX, and of what is kept between runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.situation.listing import Outcome, command, compared, same_gradient, situation
from benchmarks.situation.networks import WORDS, Tied, X, Y, classified, net
from predictor import measure
from predictor.measuring.store import FILE, Store
from training import train
from training.methods import LSQ, quantized
from workloads import Workload

PADDED = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], *([[1] * 8] * 2)])
TOKENS = torch.randint(0, 64, (3, 8), generator=torch.Generator().manual_seed(0))


@situation("a left-padded batch of a Llama of transformers")
def _(folder: Path) -> Outcome:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)).eval()
    labels = TOKENS.masked_fill(PADDED == 0, -100)

    def loss(m: nn.Module, batch: Any) -> Tensor:
        logits = m(input_ids=batch[0], attention_mask=batch[1], use_cache=False).logits
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch[2][:, 1:].flatten())

    return same_gradient(model, (TOKENS, PADDED, labels), loss)


@situation("a row of nothing but padding in a TransformerEncoder")
def _(folder: Path) -> Outcome:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x, padding = torch.randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool)
    padding[1] = True
    target = torch.randn(3, 5, 8)

    def loss(m: nn.Module, batch: Any) -> Tensor:
        return (m(batch[0], src_key_padding_mask=batch[1]) - batch[2]).square().mean()

    return same_gradient(model, (x, padding, target), loss)


@situation("a configuration within another, as of Gemma 3")
def _(folder: Path) -> Outcome:
    from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig

    from workloads.public.checkpoints import context_of, embedded

    text = Gemma3TextConfig(vocab_size=64, max_position_embeddings=32)
    config = Gemma3Config(text_config=text, vision_config=SiglipVisionConfig())
    model = SimpleNamespace(config=config, get_input_embeddings=lambda: None)
    found = context_of(model), embedded("gemma", model)
    return compared("32 tokens of 64", "{} tokens of {}".format(*found), found == (32, 64))


def _in_onnx(model: nn.Module, batch: Tensor, folder: Path) -> Outcome:
    import onnxruntime

    from training.export.onnx import export_onnx

    work = Workload("onnx", model, [(batch, Y)], lambda m, b: F.cross_entropy(m(b[0]), b[1]), train=[(batch, Y)])
    found = train(work, method=LSQ(), epochs=1, start="pretrained", rate=0.01)
    with quantized(found.model, found.method_state), torch.no_grad():
        expected = found.model.eval()(batch)
    path = folder / "net.onnx"
    export_onnx(path, found.model, found.method_state, batch)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0]
    apart = float((torch.from_numpy(given) - expected).norm() / expected.norm())
    return compared("the outputs of evaluation", f"{apart:.1e} of their size apart", apart < 1e-3)


@situation("a tied head in onnxruntime's default settings")
def _(folder: Path) -> Outcome:
    return _in_onnx(Tied(), WORDS, folder)


@situation("a product behind an activation in onnxruntime's default settings")
def _(folder: Path) -> Outcome:
    return _in_onnx(net(nn.Sequential(nn.GELU(), nn.Linear(8, 8))), X, folder)


@situation("a store with a changed byte in a table's name")
def _(folder: Path) -> Outcome:
    work = classified(net(nn.ReLU))
    expected = measure(work, ["FP134"]).angle.tolist()
    with Store.open(folder / FILE) as store:
        measure(work, ["FP134"], store=store)
    content = bytearray((folder / FILE).read_bytes())
    content[content.index(b"CREATE TABLE names") + len(b"CREATE TABLE ")] ^= 0x80
    (folder / FILE).write_bytes(content)
    with Store.open(folder / FILE) as store:
        found = measure(work, ["FP134"], store=store).angle.tolist()
        kept = store.info().measurements
    return compared(f"{expected}, and kept again", f"{found}, {kept} kept", found == expected and kept == 4)


@situation("a cluster where nothing answers")
def _(folder: Path) -> Outcome:
    given = ("rank", "-m", "resnet20", "-f", "FP134", "--minibatches", "1", "--cluster", "127.0.0.1:1")
    return command(folder, *given, words=r"127\.0\.0\.1:1", seconds=60)
