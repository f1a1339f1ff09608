"""What another thread, an extension or a call around the network computes is listed under "no point"."""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from predictor import measure
from predictor.flow.arrivals import BEHIND, CALLED, CHANGED, LEAVES, MADE
from predictor.flow.dataflow import DataFlow
from predictor.gradient.gradients import Gradients
from predictor.listing import list_points
from workloads import Workload

POOL = ThreadPoolExecutor(2)
JOBS, DONE = queue.Queue(), queue.Queue()


def serve():
    while True:
        DONE.put(JOBS.get()())


def in_thread(make):
    """By a thread that is begun for it."""
    got = []
    thread = threading.Thread(target=lambda: got.append(make()))
    thread.start()
    thread.join()
    return got[0]


def in_class(make):
    """By a thread of one's own kind."""

    class Maker(threading.Thread):
        def run(self):
            self.made = make()

    maker = Maker()
    maker.start()
    maker.join()
    return maker.made


def in_server(make):
    """By a thread that was there before, and hears through a queue."""
    JOBS.put(make)
    return DONE.get(timeout=20)


def in_pool(make):
    """By another library's pool."""
    with ThreadPool(1) as pool:
        return pool.apply(make)


@pytest.fixture(scope="module", autouse=True)
def server():
    threading.Thread(target=serve, daemon=True).start()
    yield
    POOL.shutdown()


def submitted(make):
    """By a pool that outlives the pass."""
    return POOL.submit(make).result()


HOW = [in_thread, in_class, in_server, in_pool, submitted]


class Net(nn.Module):
    """A product, something odd, and another product."""

    def __init__(self, odd):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.odd = nn.Linear(8, 8), nn.Linear(8, 3), nn.Linear(8, 8), odd
        self.register_buffer("buffer", torch.rand(8))
        self.plain, self.numpy = torch.rand(8), np.random.default_rng(0).random(8, np.float32)
        self.kept = self.c.weight.detach().clone().requires_grad_().sum(0)  # with a graph of its own

    def forward(self, x):
        return self.b(self.odd(self, self.a(x)))


def workload(odd):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    return Workload("threads", Net(odd), [x], lambda m, b: m(b).square().mean())


def unseen(odd):
    """(layer, operation, shape, reason) of what has no point, and the sentence."""
    _, skipped, sentence = list_points(workload(odd))
    return [tuple(row) for row in skipped], sentence


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("make", "operation"),
    [
        (lambda net, x: x.square(), "pow"),
        (lambda net, x: F.linear(x, net.a.weight), "mm"),
        (lambda net, x: x.detach().sin(), "tensor"),
    ],
)
def test_what_another_thread_makes_is_listed(how, make, operation):
    found, sentence = unseen(lambda net, x: x + how(lambda: make(net, x)))
    assert found == [("(network)", operation, "4 x 8", MADE)]
    assert sentence.startswith("points cover 100% of the multiply-accumulates that are seen, ")
    assert "1 operations that depend on the input have no point" in sentence


def test_its_gradient_is_torchs_own():
    odd = workload(lambda net, x: x + in_thread(lambda: F.linear(x, net.a.weight)).tanh())
    value = odd.loss(odd.model, odd.batches[0])
    own = torch.autograd.grad(value, [odd.model.a.weight, odd.model.b.weight])
    with Gradients(odd, odd.batches[0]) as gradients:
        assert gradients.names == ["a.weight", "b.weight"]
        assert all(map(torch.equal, gradients.full, own))
    # What follows has its point.
    assert [point.operation for point in gradients.flow.points] == ["input", "linear", "tanh", "add", "linear"]
    assert measure(odd, ["FP134"], ["A"]).angle[0] > 0


def test_layers_that_run_in_parallel_are_listed_by_their_names():
    meet = threading.Barrier(3)

    def together(layer, x):
        meet.wait(20)
        return layer(x)

    def parallel(net, x):
        futures = [POOL.submit(together, net.a, x), POOL.submit(together, net.a, x)]
        meet.wait(20)
        return futures[0].result() + net.a(x) + futures[1].result()

    found, _ = unseen(parallel)
    assert set(found) == {("a", "forward", "4 x 8", CALLED), ("(network)", "addmm", "4 x 8", MADE)}


def test_other_threads_take_no_layer_away():
    """The names of this thread's points are right while another thread is inside a layer."""
    inside, over = threading.Event(), threading.Event()

    class Slow(nn.Linear):
        def forward(self, x):
            inside.set()
            over.wait(20)
            return super().forward(x)

    def beside(net, x):
        future = POOL.submit(net.slow, x.detach())
        inside.wait(20)
        x = net.c(x) * 3
        over.set()
        future.result()
        return x

    net = Net(beside)
    net.slow = Slow(8, 8)
    with DataFlow(net) as flow:
        net(torch.ones(4, 8))
    assert [point.name for point in flow.points] == [":input", "a:linear", "c:linear", ":mul", "b:linear"]


def test_a_layer_of_which_only_another_thread_knows_is_named():
    odd = workload(lambda net, x: in_thread(lambda: net.c(x)))
    with pytest.raises(ValueError, match=r"differs in c\.weight; what cannot be seen into: c:forward \(called where"):
        list_points(odd)


@pytest.mark.parametrize("how", HOW[:3])
@pytest.mark.parametrize(
    "write",
    [
        lambda into, x: into.copy_(x.detach().sin()),
        lambda into, x: into.__setitem__(0, x[0].sin()),
        lambda into, x: torch.sin(x.detach(), out=into),
    ],
)
def test_what_another_thread_writes_is_listed(how, write):
    def written(net, x):
        into = torch.zeros(4, 8)
        how(lambda: write(into, x))
        return x + into

    found, sentence = unseen(written)
    assert [(row[0], *row[2:]) for row in found] == [("(network)", "4 x 8", CHANGED)]
    assert "that are seen" in sentence


def test_what_is_computed_from_it_is_listed_too():
    def behind(net, x):
        scale = in_thread(lambda: x.detach().sin())
        return x * (scale[:, :4].exp() @ torch.ones(4, 8))

    assert set(unseen(behind)[0]) == {
        ("(network)", "tensor", "4 x 8", MADE),
        ("(network)", "exp", "4 x 4", BEHIND),
        ("(network)", "mm", "4 x 8", BEHIND),
    }


class Ending(Net):
    def forward(self, x):
        y = self.b(self.a(x))
        return in_thread(lambda: y * 3)


def test_an_output_that_another_thread_makes_is_listed():
    ending = Workload("ending", Ending(None), [torch.ones(4, 8)], lambda m, b: m(b).square().mean())
    _, skipped, _ = list_points(ending)
    assert skipped == [["(network)", "mul", "4 x 3", MADE]]


@pytest.mark.parametrize(
    ("take", "name"),
    [
        (lambda x: x.norm().item(), "item"),
        (lambda x: float(x.mean()), "float"),
        (lambda x: torch.from_numpy(x.detach().numpy() * 2), "numpy"),
        (lambda x: torch.tensor(np.asarray(x.detach()) * 2), "array"),
        (lambda x: torch.tensor(x.tolist()), "tolist"),
    ],
)
@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_numbers_that_leave_torch_in_another_thread_are_listed(take, name):
    found, sentence = unseen(lambda net, x: x * in_thread(lambda: take(x)))
    assert (name, LEAVES) in [(row[1], row[3]) for row in found]
    assert "that are seen" in sentence
    assert "item" not in vars(torch.Tensor)  # nothing is left of what heard it


@pytest.mark.parametrize(
    ("take", "name"),
    [
        (lambda x: torch.from_numpy(x.detach().numpy() * 2), "numpy"),
        (lambda x: torch.from_dlpack(np.from_dlpack(x.detach()) * 2), "dlpack"),
        (lambda x: x.detach().untyped_storage()[0], "untyped_storage"),
    ],
)
def test_numbers_that_leave_torch_are_in_the_sentence(take, name):
    found, sentence = unseen(lambda net, x: x * take(x))
    assert (name, LEAVES) in [(row[1], row[3]) for row in found]
    assert "that are seen" in sentence
    assert "have no point" in sentence


def test_what_was_there_before_is_not_listed():
    def constants(net, x):
        given = torch.from_numpy(net.numpy) + torch.tensor([0.5] * 8) + torch.as_tensor(net.numpy)
        made = in_server(lambda: net.plain)  # another thread only hands it over
        return x * net.plain + net.buffer.exp() + given + torch.from_dlpack(net.numpy) + made.exp()

    found, sentence = unseen(constants)
    assert found == []
    assert sentence.startswith("points cover 100% of the multiply-accumulates, ")


def test_layers_that_the_loss_calls_itself_are_listed():
    def beside(model, x):
        return model(x).square().mean() + model.c(x).square().mean()

    beside = Workload("beside", Net(lambda net, x: net.c(x)), [torch.ones(4, 8)], beside)
    assert list_points(beside)[1] == [["c", "forward", "4 x 8", CALLED]]


def test_a_network_that_runs_twice_at_a_time_is_listed():
    meet = threading.Barrier(2)

    def odd(net, x):
        meet.wait(20)
        return x

    def twice(model, x):
        return sum(y.square().mean() for y in POOL.map(model, [x, 2 * x]))

    _, skipped, _ = list_points(Workload("twice", Net(odd), [torch.ones(4, 8)], twice))
    assert ["(network)", "forward", "4 x 3", CALLED] in skipped


def test_a_call_in_another_thread_that_ends_later_leaves_nothing_behind():
    both, ended = threading.Barrier(2), threading.Event()
    names = {}

    def odd(net, x):
        first = names.setdefault("first", threading.get_ident()) == threading.get_ident()
        both.wait(20)
        assert first or ended.wait(20)
        return x

    model, x = Net(odd), torch.ones(4, 8)
    with DataFlow(model) as flow:
        calls = []

        def first():
            calls.append(model(x))
            ended.set()

        def second():
            while "first" not in names:
                time.sleep(0.001)
            model(x)

        for done in [POOL.submit(first), POOL.submit(second)]:
            done.result()
        model.odd = lambda net, x: x
        model(torch.ones(5, 8))
        assert [point.shape for point in flow.points] == [(5, 8), (5, 8), (5, 3)]


def test_a_network_that_runs_in_one_other_thread_is_seen():
    one = Workload("one", Net(lambda net, x: x), [torch.ones(4, 8)], lambda m, b: POOL.submit(m, b).result().sum())
    points, skipped, sentence = list_points(one)
    assert [row[2] for row in points] == ["input", "linear", "linear"]
    assert skipped == []
    assert sentence.startswith("points cover 100% of the multiply-accumulates, ")
