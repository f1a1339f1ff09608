"""What is exported quantizes at products, wherever they stand, and is held against evaluation before it is written."""

import copy
import json
import re
from contextlib import contextmanager
from dataclasses import replace

import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tests.training.export import networks
from tests.training.export.networks import Held, Net, Tied, Untied, workload
from training import train
from training.export.codes import export, export_to, load
from training.export.onnx import export_onnx
from training.methods import LSQ, DistributionAdaptiveInt8, UnifiedInt8, combine, quantized
from training.methods.compensation import Compensation

OPTIONS = {"epochs": 1, "start": "pretrained", "rate": 0.01}


def evaluated(found, *given):
    with quantized(found.model, found.method_state) as model:
        return model(*given)


def in_onnxruntime(path, **given):
    session = onnxruntime.InferenceSession(path)
    return torch.from_numpy(session.run(None, {name: x.numpy() for name, x in given.items()})[0])


def apart(have, want):
    return ((have - want).norm() / want.norm()).item()


@pytest.mark.parametrize("kind", [kind for kind in networks.KINDS if kind != "functional_call"])
@pytest.mark.parametrize("method", [LSQ(), DistributionAdaptiveInt8()], ids=["lsq", "dai8"])
def test_a_loaded_network_computes_what_evaluation_computes(tmp_path, kind, method):
    of = workload(Net(kind))
    found = train(of, method=method, **OPTIONS)
    x, path = of.batches[0][0], tmp_path / "net.safetensors"
    want = evaluated(found, x)
    assert apart(found.model(x), want) > 1e-4
    export_to(path, of, found.model, found.method_state)
    assert apart(load(path, Net(kind))(x), want) <= 1e-6
    export(path, found.model, found.method_state)
    loaded = load(path, Net(kind))
    assert apart(loaded(x), want) <= 1e-6
    # Copies too, and where it is part of another network.
    assert torch.equal(copy.deepcopy(loaded)(x), loaded(x))
    assert torch.equal(nn.Sequential(loaded, nn.Identity())(x), loaded(x))
    assert torch.equal(torch.func.functional_call(loaded, dict(loaded.named_parameters()), (x,)), loaded(x))
    assert isinstance(loaded, Net)
    for way in (torch.no_grad, torch.inference_mode):
        with way():
            assert torch.equal(loaded(x + 0), loaded(x))
            assert apart(loaded(x + 0), want) <= 1e-6


def test_a_weight_that_is_computed_on_the_way_has_no_codes(tmp_path):
    of = workload(Net("functional_call"))
    found = train(of, method=LSQ(), **OPTIONS)
    with pytest.raises(ValueError, match=r"layer m: its weight is computed from m\.weight"):
        export_to(tmp_path / "net.safetensors", of, found.model, found.method_state)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["second", "twice"])
def test_onnxruntime_computes_what_evaluation_computes(tmp_path, kind):
    of = workload(Net(kind))
    found = train(of, method=LSQ(), **OPTIONS)
    path, x = tmp_path / "net.onnx", of.batches[0][0]
    assert "differs from evaluation by" in export_to(path, of, found.model, found.method_state)
    assert apart(in_onnxruntime(path, input=x), evaluated(found, x)) <= 1e-5


@pytest.mark.slow
def test_onnx_of_a_product_inside_a_module_and_of_one_that_is_given_two_inputs(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inner = Net("inside")

        def forward(self, x, y):
            return self.inner(x * y) + x[:, :3]

    of = replace(workload(Two(), lambda m, b: nn.functional.cross_entropy(m(b[0], b[0].cos()), b[1])))
    found = train(of, method=LSQ(), **OPTIONS)
    path, x = tmp_path / "net.onnx", of.batches[0][0]
    export_to(path, of, found.model, found.method_state)
    got = in_onnxruntime(path, input0=x[:5], input1=x[:5].cos())
    assert apart(got, evaluated(found, x[:5], x[:5].cos())) <= 1e-5


def test_a_head_with_the_weight_of_the_embedding(tmp_path):
    of, path = networks.tied_workload(), tmp_path / "net.safetensors"
    found = train(of, method=LSQ(edge_bits=2), **OPTIONS)
    want = evaluated(found, of.batches[0])
    for given in (None, of):
        export(path, found.model, found.method_state, given)
        assert apart(load(path, Tied())(of.batches[0]), want) <= 1e-6
        # Where head and embedding are two tensors, too.
        assert apart(load(path, Untied())(of.batches[0]), want) <= 1e-6
    onnx = tmp_path / "net.onnx"
    export_to(onnx, of, found.model, found.method_state)
    assert apart(in_onnxruntime(onnx, input=of.batches[0]), want) <= 1e-5


def test_a_weight_that_the_network_uses_otherwise_too_stays_beside_its_codes(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.z = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.z(self.a(x) / self.a.weight.norm())

    of, path = workload(Scaled()), tmp_path / "net.safetensors"
    found = train(of, method=LSQ(weight_bits=2, edge_bits=2), **OPTIONS)
    export(path, found.model, found.method_state, of)
    x = of.batches[0][0]
    assert apart(load(path, Scaled())(x), evaluated(found, x)) <= 1e-6
    assert {"a.weight", "a.weight.codes"} <= load_file(path).keys()


@pytest.mark.parametrize("kind", ["dict", "data class", "named tuple"])
def test_outputs_and_inputs_in_containers(tmp_path, kind):
    of = workload(Held(kind), networks.held_loss)
    found = train(of, method=LSQ(), **OPTIONS)
    path, given = tmp_path / "net.safetensors", {"x": of.batches[0][0]}
    assert export(path, found.model, found.method_state, of) <= 1e-6
    have, want = load(path, Held(kind))(given), evaluated(found, given)
    if kind != "dict":
        have, want = ({"logits": each.logits} for each in (have, want))
    assert apart(have["logits"], want["logits"]) <= 1e-6
    with pytest.raises(ValueError, match="does not call the network with tensors alone"):
        export_to(tmp_path / "net.onnx", of, found.model, found.method_state)


class Float64(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.z = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("mean", torch.tensor(0.5), persistent=False)

    def forward(self, x):
        return self.z(self.conv(x - self.mean).mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_types_layouts_and_buffers_that_are_not_kept(tmp_path, dtype, layout):
    torch.manual_seed(2)
    x, y = torch.randn(8, 3, 8, 8, dtype=dtype).to(memory_format=layout), torch.randint(0, 3, (8,))
    made = Float64().to(dtype).to(memory_format=layout)
    made.mean.fill_(0.25)
    of = replace(workload(made), batches=[(x, y)])
    found = train(of, method=LSQ(), **OPTIONS)
    path = tmp_path / "net.safetensors"
    assert export(path, found.model, found.method_state, of) <= 1e-6
    [(x, _)] = of.minibatches()
    loaded = load(path, Float64().to(found.model.conv.weight.dtype))
    assert apart(loaded(x), evaluated(found, x)) <= 1e-6
    if dtype is torch.bfloat16:
        with pytest.raises(ValueError, match=r"conv.weight in torch.bfloat16; load it into one in float32"):
            load(path, Float64().bfloat16())


class Wrong:
    """What says that it evaluates otherwise than it exports."""

    def __init__(self, state, layer):
        self.state, self.layer = state, layer

    def exported(self):
        return [replace(e, input=None) if e.layer == self.layer else e for e in self.state.exported()]

    @contextmanager
    def evaluated(self, model):
        with self.state.evaluated(model) as evaluating:
            yield evaluating


def test_what_does_not_compute_what_evaluation_computes_is_refused(tmp_path):
    of = workload(Net("before"))
    found = train(of, method=LSQ(activation_bits=2), **OPTIONS)
    for name in ("net.safetensors", "net.onnx"):
        (tmp_path / name).write_bytes(b"before")
        with pytest.raises(ValueError, match=r"differs from evaluation by .* of the outputs' size .*, from layer m on"):
            export_to(tmp_path / name, of, found.model, Wrong(found.method_state, "m"))
        assert (tmp_path / name).read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.safetensors"]


def test_a_network_that_remembers_is_refused_in_onnx(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.z = nn.Linear(8, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.z(x) * self.calls

    of = workload(Counting())
    found = train(of, method=LSQ(), **OPTIONS)
    with pytest.raises(ValueError, match=r"net\.onnx"):
        export_to(tmp_path / "net.onnx", of, found.model, found.method_state)
    assert not list(tmp_path.iterdir())
    assert export(tmp_path / "net.safetensors", found.model, found.method_state, of) <= 1e-6


def test_without_onnxruntime_it_is_said_that_nothing_was_checked(tmp_path, monkeypatch):
    of = workload(Net("before"))
    found = train(of, method=LSQ(), **OPTIONS)
    monkeypatch.setattr("training.export.onnx.find_spec", lambda name: None)
    told = export_to(tmp_path / "net.onnx", of, found.model, found.method_state)
    assert told == "not checked: onnxruntime is not installed"
    assert (tmp_path / "net.onnx").exists()


def test_exports_with_nothing_to_export_are_refused(tmp_path):
    of = workload(Net("before"))
    found = train(of, method=Compensation(include_linear=True), **OPTIONS)
    for name in ("net.safetensors", "net.onnx"):
        with pytest.raises(ValueError, match="quantized"):
            export_to(tmp_path / name, of, found.model, found.method_state)
    assert not list(tmp_path.iterdir())


def test_compensation_of_each_call_of_one_weight(tmp_path):
    of = workload(Net("twice"))
    method = combine([LSQ(), UnifiedInt8(), Compensation(include_linear=True)])
    found = train(of, method=method, **OPTIONS)
    path, x = tmp_path / "net.safetensors", of.batches[0][0]
    export(path, found.model, found.method_state, of)
    assert apart(load(path, Net("twice"))(x), evaluated(found, x)) <= 1e-6


class Longer(Net):
    def __init__(self, kind):
        super().__init__(kind)
        self.more = nn.Linear(8, 8)


class OtherUse(Net):
    def middle(self, h):
        return torch.relu(h @ self.m.weight)


def test_files_that_do_not_fit_are_refused(tmp_path):
    of, path = workload(Net("before")), tmp_path / "net.safetensors"
    found = train(of, method=LSQ(), **OPTIONS)
    export(path, found.model, found.method_state, of)
    with pytest.raises(ValueError, match=r"has no more.weight, more.bias of the network's shape"):
        load(path, Longer("before"))
    longer = train(workload(Longer("before")), method=LSQ(), **OPTIONS)
    export(tmp_path / "longer.safetensors", longer.model, longer.method_state)
    with pytest.raises(ValueError, match=r"has more.bias, more.weight, which the network has not"):
        load(tmp_path / "longer.safetensors", Net("before"))
    with pytest.raises(ValueError, match=r"does not say how :matmul computes with m.weight, of which it has codes"):
        load(path, OtherUse("before"))(of.batches[0][0])

    with safe_open(path, "pt") as file:
        rows, aliases = json.loads(file.metadata()["layers"]), file.metadata()["aliases"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    damages = [
        {"code": str(tmp_path / "evil.py")},
        {"code": "INT9000"},
        {"codes": "nowhere"},
        {"codes": "a.bias"},
        {"scale": "a.bias"},
        {"layer": "b"},
        {"parameter": "b.weight"},
        {"input": {"kind": "absmax", "format": str(tmp_path / "evil.py")}},
        {"input": {"kind": "step", "step": "x", "offset": None, "low": 0, "high": 15}},
        {"input": {"kind": "fixed-range", "bits": 10**9, "low": 0, "high": 1}},
        {"input": 3},
    ]
    for damage in [*damages, None]:
        changed = [{**rows[0], **damage}, *rows[1:]] if damage is not None else [3]
        metadata = {"layers": json.dumps(changed), "aliases": aliases, "probe": "null"}
        save_file(tensors, tmp_path / "bad.safetensors", metadata)
        with pytest.raises(ValueError, match=r"bad\.safetensors") as caught:
            load(tmp_path / "bad.safetensors", Net("before"))
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_example_with_one_row_and_no_example(tmp_path):
    of = workload(Net("before"))
    found = train(of, method=LSQ(), **OPTIONS)
    x = of.batches[0][0]
    export_onnx(tmp_path / "net.onnx", found.model, found.method_state, x[:1])
    assert apart(in_onnxruntime(tmp_path / "net.onnx", input=x), evaluated(found, x)) <= 1e-5
    with pytest.raises(ValueError, match="an input of the network is needed"):
        export_onnx(tmp_path / "none.onnx", found.model, found.method_state)


class OtherActivation(Net):
    def middle(self, h):
        return nn.functional.gelu(self.m(h) + 1)


def test_a_network_of_the_same_names_that_computes_something_else_is_refused(tmp_path):
    of, path = workload(Net("keyword")), tmp_path / "net.safetensors"
    found = train(of, method=LSQ(), **OPTIONS)
    export(path, found.model, found.method_state, of)
    for other in (OtherActivation("keyword"), Net("forward()")):
        # The second has the product outside its module, and the same function.
        with pytest.raises(ValueError, match=r"differ from those of the exported one|does not say how"):
            load(path, other)
    changed = Net("keyword")
    changed.a.register_forward_hook(lambda m, args, y: y * 0.5)
    with pytest.raises(ValueError, match=r"differ from those of the exported one by .* of their size"):
        load(path, changed)
    # Nothing of the data is in the file.
    with safe_open(path, "pt") as file:
        assert set(json.loads(file.metadata()["probe"])) == {"args", "kwargs", "count", "outputs"}


@pytest.mark.parametrize("kind", ["keyword", "in parts"])
def test_each_product_is_followed_where_outputs_differ(tmp_path, monkeypatch, kind):
    of = workload(Net(kind))
    found = train(of, method=LSQ(weight_bits=3, activation_bits=3), **OPTIONS)
    monkeypatch.setattr("training.export.running.TOLERANCE", -1.0)
    said = export_to(tmp_path / "net.onnx", of, found.model, found.method_state)
    # Sums in onnxruntime are in an order of the processor's: 0, or the last bits of float32.
    assert float(re.search(r"differs from evaluation by (\S+) of", said)[1]) < 5e-7
    # As onnxruntime optimizes by itself: biases are rounded to steps of the product.
    monkeypatch.setattr("training.export.running.TOLERANCE", 1e-3)
    monkeypatch.setattr("training.export.onnx.add_biases_apart", lambda model: None)
    (tmp_path / "net.onnx").unlink()
    if kind == "keyword":
        with pytest.raises(ValueError, match=r"evaluation by 0\.0.*; onnxruntime's optimizations make the difference;"):
            export_to(tmp_path / "net.onnx", of, found.model, found.method_state)
        assert not list(tmp_path.iterdir())
