"""A traced network is what the original was in all but its forward pass; where its trace is another function, it is
refused."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training.export.networks import Derived, Hooked
from training.calibration import AdaRound, Network, begin_from, quantize
from training.export import codes
from workloads import Workload

QUICK = {"adaround": None, "rank_layers": False, "logits_range": "minmax"}


def batches(count=2):
    torch.manual_seed(3)
    return [(torch.rand(16, 8) * 255, torch.randint(0, 10, (16,))) for _ in range(count)]


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


LOSSES = {
    "module": lambda m, b: m.criterion(m(b[0]), b[1]),
    "attribute": lambda m, b: F.cross_entropy(m(b[0]).view(-1, m.classes), b[1]),
    "buffer": lambda m, b: F.cross_entropy(m(b[0]), b[1], m.class_weight),
    "method": lambda m, b: m.compute_loss(*b),
    "unused module": lambda m, b: F.cross_entropy(m(b[0]), b[1]) + m.aux(m(b[0])).square().mean(),
    "property and static method": lambda m, b: F.cross_entropy(m(m.halved(b[0])), b[1]) * m.half,
    "class": lambda m, b: loss(m, b) if isinstance(m, Hooked) else None,
    "state": lambda m, b: F.cross_entropy(m(b[0]), b[1]) + 0 * sum(len(name) for name in m.state_dict()),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", [Hooked, Derived])
def test_a_loss_finds_on_it_what_it_finds_on_the_original(name, kind, tmp_path):
    work = Workload("net", kind(), batches(), LOSSES[name])
    found = quantize(work, "INT8", "INT8", output=tmp_path / "run", **QUICK)
    losses = [step.loss for step in found.steps]
    with torch.no_grad():
        want = sum(work.loss(work.model, batch).item() for batch in work.batches) / 2
    assert losses == pytest.approx([want] * len(losses), rel=0.05)
    assert losses[0] == pytest.approx(want, rel=1e-6)
    with torch.no_grad():
        assert work.loss(copy.deepcopy(found.model), work.batches[0]) == work.loss(found.model, work.batches[0])
        assert begin_from(tmp_path / "run", work)[0].model.half == 5


class Asking(Hooked):
    def __init_subclass__(cls, tag, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.tag = tag


class Tagged(Asking, tag=3):
    pass


class Wrapping(nn.Module):
    """Gives what its inner network has."""

    def __init__(self):
        super().__init__()
        self.module = Hooked()

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, x):
        return self.module(x)


class Halving(Hooked):
    def __call__(self, x):
        return super().__call__(x / 2)


@pytest.mark.parametrize("kind", [Tagged, Wrapping, Halving])
def test_classes_with_ways_of_their_own(kind, tmp_path):
    work = Workload("net", kind(), batches(), lambda m, b: F.cross_entropy(m(b[0]), b[1], m.class_weight))
    found = quantize(work, "INT8", "INT8", **QUICK)
    x, path = work.batches[0][0], tmp_path / "net.safetensors"
    want = work.model(x)
    assert (found.model(x) - want).norm() < 0.03 * want.norm()
    assert isinstance(found.model, kind)
    torch.testing.assert_close(copy.deepcopy(found.model)(x), found.model(x), rtol=0, atol=0)
    codes.export(path, found.network, found.codes, work)
    torch.testing.assert_close(codes.load(path, kind())(x), found.model(x), rtol=1e-5, atol=1e-5)


def with_hook(kind):
    made = Hooked()
    if kind == "before the root":
        made.register_forward_pre_hook(lambda m, args: (args[0] / 255 - 0.5,))
    elif kind == "before the root, keywords":
        made.register_forward_pre_hook(lambda m, args, kwargs: ((args[0] / 255,), kwargs), with_kwargs=True)
    elif kind == "after the root":
        made.register_forward_hook(lambda m, args, y: y * 0.01)
    elif kind == "before a layer":
        made.b.register_forward_pre_hook(lambda m, args: (args[0] / 100 - 0.5,))
    elif kind == "after a layer":
        made.a.register_forward_hook(lambda m, args, y: y * 0.01 + 1)
    elif kind == "after the last layer":
        made.b.register_forward_hook(lambda m, args, y: y * 0.01)
    elif kind == "around a container":
        made = nn.Sequential(nn.Sequential(made), nn.Identity())
        made[0].register_forward_hook(lambda m, args, y: y * 0.01)
    return made


@pytest.mark.parametrize(
    "kind",
    [
        *("before the root", "before the root, keywords", "after the root", "before a layer", "after a layer"),
        *("after the last layer", "around a container"),
    ],
)
def test_hooks_are_kept(kind, tmp_path):
    work = Workload("net", with_hook(kind), batches(), loss)
    traced, x = Network(work.model).module, work.batches[0][0]
    want = work.model(x)
    torch.testing.assert_close(traced(x), want)
    torch.testing.assert_close(copy.deepcopy(traced)(x), want)
    found = quantize(
        work, "INT8", "INT8", adaround=AdaRound(iterations=10), bias_correction="empirical", logits_range="minmax"
    )
    losses = [step.loss for step in found.steps]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.02)
    error = (found.model(x) - want).norm() / want.norm()
    assert error < 0.03
    # What is exported quantizes at the products as well, between the hooks.
    path = tmp_path / "net.safetensors"
    codes.export(path, found.network, found.codes, work)
    torch.testing.assert_close(codes.load(path, with_hook(kind))(x), found.model(x), rtol=1e-4, atol=1e-5)


def test_a_hooked_network_is_not_pickled_without_its_hooks():
    with pytest.raises(TypeError, match="hooks on a traced network are lost"):
        pickle.dumps(Network(with_hook("after the root")).module)


class Counting(Hooked):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x / 255) * self.calls


class Drawing(Hooked):
    def forward(self, x):
        return super().forward(x + 50 * torch.rand(8))


class Swapping(Hooked):
    def forward(self, x):
        return self.b(torch.func.functional_call(self.a, {"weight": self.a.weight * 2}, (x,)))


class Switching(Hooked):
    def __init__(self):
        super().__init__()
        self.first = True

    def forward(self, x):
        self.first = not self.first
        return super().forward(x) * (1 if self.first else 2)


@pytest.mark.parametrize("kind", [Counting, Drawing, Swapping, Switching])
def test_a_trace_that_is_another_function_is_refused(kind):
    with pytest.raises(ValueError, match=r"^(torch\.fx traces another function|.* cannot be traced)[^\n]*$"):
        quantize(Workload("net", kind(), batches(), loss), "INT8", "INT8", **QUICK)


class Told(Hooked):
    """Its loss tells it how to compute each mini-batch."""

    def __init__(self):
        super().__init__()
        self.scale, self.a.way = 1, "once"

    def forward(self, x):
        return super().forward(x / 2 if self.a.way == "half" else x) * self.scale


def by_scale(model, batch):
    model.scale = 1 + batch[2]
    return loss(model, batch)


def by_way(model, batch):
    model.a.way = "half" if batch[2] else "once"
    return loss(model, batch)


@pytest.mark.parametrize("told", [by_scale, by_way])
def test_a_trace_that_is_another_function_on_a_later_mini_batch_is_refused(told):
    data = [(*batch, number == 2) for number, batch in enumerate(batches(3))]
    with pytest.raises(ValueError, match=r"^torch\.fx traces another function[^\n]* read none that the loss sets"):
        quantize(
            Workload("told", Told(), data, told), "INT8", "INT8", fold=False, equalize=False, absorb="off", **QUICK
        )
    same = [(*batch, 0) for batch in batches(3)]
    assert quantize(Workload("told", Told(), same, told), "INT8", "INT8", **QUICK).steps[0].loss > 0


class Named(Hooked):
    def __init__(self):
        super().__init__()
        self.graph = "a graph"


class Meta(Hooked):
    def recompile(self):
        return 3


@pytest.mark.parametrize(("kind", "name"), [(Named, "graph"), (Meta, "recompile")])
def test_names_that_torch_fx_has_for_itself_are_refused(kind, name):
    with pytest.raises(ValueError, match=rf"has {name}, which torch\.fx has for itself; rename"):
        Network(kind())


def test_a_forward_pass_put_into_the_object_is_refused():
    made = Hooked()
    made.forward = lambda x: x
    with pytest.raises(ValueError, match="a forward pass put into the object"):
        Network(made)


def test_a_loss_that_does_not_call_the_network_is_refused():
    work = Workload("net", Hooked(), batches(), lambda m, b: m.a(b[0]).square().mean())
    with pytest.raises(ValueError, match="the loss of workload net does not call the network"):
        quantize(work, "INT8", "INT8", **QUICK)


def test_a_layer_that_is_called_by_keyword():
    class Keyword(Hooked):
        def forward(self, x):
            return self.b(F.relu(self.a(input=x)))

    work = Workload("net", Keyword(), batches(), loss)
    by_name = quantize(work, "INT4", "INT4", adaround=AdaRound(iterations=10))
    by_place = quantize(
        Workload("net", Hooked(), batches(), loss), "INT4", "INT4", adaround=AdaRound(iterations=10), equalize=False
    )
    assert by_name.steps[0].loss == by_place.steps[0].loss
    assert len(by_name.network.a.weight.unique()) <= 15
    assert by_name.layers[0].rounded is not None


def sequences(*lengths):
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3)),
    )
    data = [(torch.randn(8 - k, 4, length), torch.randint(0, 3, (8 - k,))) for k, length in enumerate(lengths)]
    return Workload("sequences", net, data, loss)


@pytest.mark.slow
def test_adaround_refuses_mini_batches_of_several_shapes_before_anything_else(tmp_path):
    stages, run = [], tmp_path / "run"
    quick = AdaRound(iterations=5)
    with pytest.raises(
        ValueError,
        match=r"^layer 0 reads rows of \(4, 16\) in one mini-batch, \(4, 20\) in another; .*--no-adaround\)$",
    ):
        quantize(sequences(16, 20), adaround=quick, output=run, progress=lambda at: stages.append(at.stage))
    assert stages == []
    assert not list(run.iterdir())
    for allowed in ({"adaround": None}, {"adaround": None, "bias_correction": "empirical"}, {"weights": "float32"}):
        assert quantize(sequences(16, 20), rank_layers=False, **allowed).steps
    assert quantize(sequences(16, 16), adaround=quick).steps


def test_other_shapes_that_no_layer_sees_are_no_matter():
    work = sequences(16, 16)
    [first, second] = work.batches
    object.__setattr__(work, "batches", [(*first, torch.zeros(8, 2)), (*second, torch.zeros(7, 3))])
    assert quantize(work, adaround=AdaRound(iterations=5)).steps
