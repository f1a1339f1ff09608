"""What a recipe's gradient takes of memory, against what a process takes."""

import json

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

import predictor.recipe_comparison.outlook
from predictor.recipe_comparison.outlook import estimate_recipes
from predictor.requirements.memory import Memory, memory_of
from tests.nets import small_workload
from tests.processes import python
from workloads import Workload

MEASURED = """
import gc, json, sys, torch
import formats
from predictor.effects import Effect
from predictor.measuring.units import Subject, Unit, measure_unit
from predictor.requirements.memory import memory_of
from predictor.recipes.placed import Placed
from tests.predictor.requirements.test_memory import network

def resident(what):
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))

torch.set_num_threads(1)
found = []
for size in json.loads(sys.argv[1]):
    workload = network(*size)
    own, unit = sum(p.nbytes for p in workload.model.parameters()), Unit(0, 0, (Effect.OPERANDS,))
    expected = memory_of(workload, workload.batches[0]).total
    gc.collect()
    before = resident("VmRSS") - own
    for name in ("fp8-tensor", "mxfp8"):
        with Subject(workload).gradients(workload.batches[0], kept=False) as gradients:
            placed = Placed(formats.recipe(name), head=True)
            measure_unit(gradients, unit, placed)  # compiles
            open("/proc/self/clear_refs", "w").write("5")
            measure_unit(gradients, unit, placed)
            found.append([expected, resident("VmHWM") - before])
    del workload, gradients
print(json.dumps(found))
"""


def network(width, blocks, examples):
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        for _ in range(blocks)
    ]
    batch = torch.randn(examples, width)
    return Workload("blocks", nn.Sequential(*layers), [batch], lambda m, b: m(b).square().mean())


@pytest.mark.slow
def test_it_grows_as_it_is_said_to():
    """With weights that are most of it, and with activations that are. What was freed is given back at once."""
    sizes = [(64, 1, 8), (384, 4, 64), (384, 8, 64), (384, 4, 768)]
    done = python("-c", MEASURED, json.dumps(sizes), MALLOC_MMAP_THRESHOLD_=65536, OMP_NUM_THREADS=1)
    for expected, measured in json.loads(done.stdout)[2:]:  # the first loads and compiles
        assert measured == pytest.approx(expected, rel=0.2)


def test_what_is_counted():
    """Two layers of 8 x 4 and 4 x 8; the backward pass takes both inputs, and the batch of 3 to the last mean."""
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))
    workload = Workload("small", model, [torch.ones(3, 4)], lambda m, b: m(b).sum())
    found = memory_of(workload, workload.batches[0])
    assert found == Memory(weights=4 * 64, gradients=4 * 64, activations=4 * (3 * 4 + 3 * 8), at_hand=3 * 4 * 32)
    assert found.total == 4 * (64 + 64 + 36 + 96)


def followed(monkeypatch):
    """Of each loss of a small network from now on, whether it is of shapes alone."""
    found, loss = [], Workload.loss_of

    def followed(self, model, batch):
        if self.name in ("small", "blocks"):
            found.append(all(isinstance(p.data, FakeTensor) for p in model.parameters()))
        return loss(self, model, batch)

    monkeypatch.setattr(Workload, "loss_of", followed)
    return found


def test_where_memory_does_not_suffice_no_gradient_is_computed(monkeypatch):
    workload = small_workload()
    found = estimate_recipes(workload, ["mxfp8"])
    assert (found.seconds > 0, found.fits, found.timed) == (True, True, True)
    monkeypatch.setattr(predictor.recipe_comparison.outlook, "available_memory", lambda: 100)
    by_shapes = followed(monkeypatch)
    found = estimate_recipes(workload, ["mxfp8"])
    assert (found.seconds > 0, found.fits, found.timed) == (True, False, False)
    assert by_shapes == [True, True]
