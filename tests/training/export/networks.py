"""Networks whose products stand where an export may miss them, each with what its loss gives it."""

import warnings
from collections import namedtuple
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from workloads import Workload


def weight():
    return nn.Parameter(torch.randn(8, 8) * 0.5)


def _scripted(x, w):
    return torch.nn.functional.linear(x.tanh(), w)


with warnings.catch_warnings(action="ignore"):  # torch would rather have something else
    scripted = torch.jit.script(_scripted)


class Inside(nn.Module):
    """Something comes before the product in its module."""

    def __init__(self):
        super().__init__()
        self.weight = weight()

    def forward(self, x):
        return F.linear(F.gelu(x), self.weight)


class Before(Inside):
    """The product comes first."""

    def forward(self, x):
        return F.linear(x, self.weight).relu()


class Second(Inside):
    """The product reads the second argument."""

    def forward(self, s, x):
        return s + F.linear(x, self.weight)


class InParts(nn.Module):
    """Two products in one module, and one weight used twice with other inputs."""

    def __init__(self):
        super().__init__()
        self.one, self.two = weight(), weight()

    def forward(self, x):
        h = F.linear(F.linear(x, self.one).relu() * 3, self.two)
        return F.linear(h.tanh(), self.one)


class LinearOfGelu(nn.Linear):
    def forward(self, x):
        return super().forward(F.gelu(x))


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.a, self.z = kind, nn.Linear(8, 8), nn.Linear(8, 3)
        made = {"inside": Inside, "before": Before, "second": Second, "in parts": InParts}
        if kind == "root":
            self.weight = weight()
        elif kind in made:
            self.m = made[kind]()
        elif kind == "subclass":
            self.m = LinearOfGelu(8, 8)
        else:
            self.m = nn.Linear(8, 8)
        if kind == "shared module":
            self.again = self.m

    def forward(self, x):
        return self.z(self.middle(self.a(x)))

    def middle(self, h):
        match self.kind:
            case "root":
                return F.linear(F.gelu(h), self.weight)
            case "forward()":
                return self.m.forward(F.gelu(h))
            case "keyword":
                return self.m(input=F.gelu(h))
            case "second":
                return self.m(h * 100, F.gelu(h))
            case "twice":
                return self.m(self.m(h).tanh() * 50)
            case "shared module":
                return self.again(self.m(h).tanh() * 50)
            case "scripted":
                return scripted(h, self.m.weight)
            case "vmap":
                return torch.vmap(lambda row: F.linear(row, self.m.weight))(h)
            case "functional_call":
                return torch.func.functional_call(self.m, {"weight": self.m.weight * 2}, (F.gelu(h),))
        return self.m(h)


KINDS = (
    *("inside", "before", "second", "in parts", "subclass", "root", "forward()", "keyword", "twice", "shared module"),
    *("functional_call", "scripted", "vmap"),
)


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def workload(model, loss=loss):
    torch.manual_seed(1)
    return Workload("products", model, [(torch.randn(64, 8) * 2, torch.randint(0, 3, (64,)))], loss)


class Tied(nn.Module):
    """A head that has the embedding's weight."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mid, self.head = nn.Embedding(32, 16), nn.Linear(16, 16), nn.Linear(16, 32, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, t):
        return self.head(F.relu(self.mid(self.embed(t))))


class Untied(Tied):
    def __init__(self):
        super().__init__()
        self.head.weight = nn.Parameter(torch.zeros(32, 16))


def tied_workload():
    torch.manual_seed(1)
    return Workload(
        "tied",
        Tied(),
        [torch.randint(0, 32, (8, 6))],
        lambda m, b: F.cross_entropy(m(b)[:, :-1].flatten(0, 1), b[:, 1:].flatten()),
    )


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple


Pair = namedtuple("Pair", "logits hidden")


class Held(nn.Module):
    """Gives its output in a container of a kind, from a mapping."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.a, self.z = kind, nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, batch):
        h = F.gelu(self.a(batch["x"]))
        y = self.z(h)
        return {"dict": {"logits": y, "hidden": h}, "data class": Output(y, (h,)), "named tuple": Pair(y, h)}[self.kind]


def held_loss(model, batch):
    y = model({"x": batch[0]})
    return F.cross_entropy(y["logits"] if isinstance(y, dict) else y.logits, batch[1])


class Hooked(nn.Module):
    """One that a loss uses in more ways than by calling it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.aux = nn.Linear(8, 8), nn.Linear(8, 10), nn.Linear(10, 1)
        self.criterion, self.classes = nn.CrossEntropyLoss(), 10
        self.register_buffer("class_weight", torch.linspace(0.5, 1.5, 10))

    def forward(self, x):
        return self.b(F.relu(self.a(x)))

    @property
    def half(self):
        return self.classes / 2

    @staticmethod
    def halved(x):
        return x / 2

    def compute_loss(self, x, y):
        return F.cross_entropy(self(x), y)


class Derived(Hooked):
    def compute_loss(self, x, y):
        return 2 * super().compute_loss(x, y)
