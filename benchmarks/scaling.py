"""Where does a ranking stop being faster with more workers?

    python benchmarks/scaling.py > benchmarks/scaling.txt

First, how many finished units a second one process takes in: it stores them as a ranking does, with nothing measured.
Then a ranking of 498 formats on 100 mini-batches is simulated for 1 to 1,000 workers. Who gets which unit is decided by
the product's own scheduler (`predictor.measuring.pool`), whose processor time counts as it is, and each unit takes the
driver what storing one took it. Workers are simulated: a unit takes one of the 7,968 times that were recorded of E on a
ResNet-20 (benchmarks/exhaustive_resnet20.parquet), or twelve times that, as on the ResNet-18, and a mini-batch that is
opened one full-precision gradient. What is sent between machines takes no time here.
"""

import heapq
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

import formats
from formats.kernel import BUCKETS
from predictor.effects import Effect
from predictor.measuring.executors import InProcess, Work
from predictor.measuring.messages import READY, Lost
from predictor.measuring.pool import Pool
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from predictor.measuring.units import Measurement, Unit
from search.front import UNIT
from workloads import Workload

HERE = Path(__file__).parent
CANDIDATES = list(formats.catalogue())
STORED, MINIBATCHES = 2000, 100
LAYERS = 21
"""Of the ResNet-18, whose angles are measured."""
LARGER = 12.0
"""So many times as long as the ResNet-20's gradient is that of the ResNet-18."""
WORKERS = (1, 10, 30, 100, 300, 1000)


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    """Cross entropy."""
    return F.cross_entropy(model(batch[0]), batch[1])


def small(minibatches: int) -> Workload:
    """A network whose size plays no part."""
    torch.manual_seed(0)
    batches = [(torch.randn(4, 6), torch.randint(0, 3, (4,))) for _ in range(minibatches)]
    return Workload("small", nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), batches, loss)


class Measured(InProcess):
    """Has measured everything already."""

    def run(self, work: Work) -> Iterator[list[Measurement]]:
        """As large as those of the ResNet-18."""
        layers = tuple(f"layer{place}.0.conv1.weight" for place in range(LAYERS))
        sums, sketch = np.ones((LAYERS, 3)), np.ones((2, BUCKETS), np.float32)
        for unit in work.units:
            yield [Measurement(unit.format, Effect.E, unit.minibatch, layers, sums, sketch, 0.0, 1.0)]


def taking_in() -> float:
    """Seconds of processor time a unit that is stored."""
    workload = small(-(-STORED // len(CANDIDATES)))
    units = list(itertools.product(range(len(workload.minibatches())), range(len(CANDIDATES))))[:STORED]
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store") as store:
        measuring = Measuring(workload, store=store, executor=Measured())
        measuring.check(workload.minibatches()[0])
        began, of_processor = time.perf_counter(), time.process_time()
        count = sum(1 for _ in measuring.measured(CANDIDATES, workload.minibatches(), (Effect.E,), units))
        wall, of_processor = time.perf_counter() - began, time.process_time() - of_processor
    assert count == STORED
    print(f"{count} units stored one by one, a second: {count / of_processor:.0f} of processor time")
    print(f"({1e3 * of_processor / count:.2f} ms each), {count / wall:.0f} on the wall of a busy machine")
    return of_processor / count


@dataclass(frozen=True)
class World:
    """What happens to workers. All times in seconds.

    Attributes:
        start: Until one is ready, in the mean; half to twice that.
        lost_every: Of a worker's own time, in the mean, until it is lost.
        straggling: The share of units that take `longer` times as long.
        slow: The share of workers that take twice as long for all.
        storing: Of the driver, for each unit.
    """

    storing: float
    start: float = 20.0
    lost_every: float = 36000.0
    straggling: float = 0.01
    longer: float = 5.0
    slow: float = 0.02


@dataclass(eq=False)
class Simulated:
    """A worker. free: when it has done what it was given. ends: when it is lost. waits: whether its loss is told."""

    factor: float
    ends: float
    free: float = 0.0
    told: bool = False


@dataclass
class Clock:
    """The time of the simulation, and the driver's share of it."""

    now: float = 0.0
    busy: float = 0.0
    mark: float = field(default_factory=time.process_time)

    def work(self, seconds: float) -> None:
        """The driver is busy."""
        self.now += seconds
        self.busy += seconds


class Simulation(Pool):
    """The product's scheduler over simulated workers."""

    threads = 1

    def __init__(self, count: int, world: World, seconds: Sequence[float], opening: float):
        super().__init__()
        self.count, self.world, self.seconds, self.opening = count, world, seconds, opening
        self.clock, self.random = Clock(), random.Random(0)
        self.events: list[tuple[float, int, Simulated, Any]] = []
        self.number = itertools.count()
        self.lost = self.opened = 0

    def _tell(self, when: float, worker: Simulated, reply: Any) -> None:
        heapq.heappush(self.events, (when, next(self.number), worker, reply))

    def _start(self) -> Simulated:
        world, now = self.world, self.clock.now
        factor = 2.0 if self.random.random() < world.slow else 1.0
        ready = now + world.start * 2 ** self.random.uniform(-1, 1)
        worker = Simulated(factor, ready + self.random.expovariate(1 / world.lost_every), ready)
        self._tell(ready, worker, READY)
        return worker

    def _send(self, handle: Simulated, setup: Any, batch: Any, unit: Unit, format: bytes) -> None:
        took = self.random.choice(self.seconds)
        if self.random.random() < self.world.straggling:
            took *= self.world.longer
        if batch is not None:
            took += self.opening
            self.opened += 1
        handle.free = max(handle.free, self.clock.now) + took * handle.factor
        if handle.free <= handle.ends:
            self._tell(handle.free, handle, [])
        elif not handle.told:
            handle.told = True
            self._tell(max(handle.ends, self.clock.now), handle, Lost("lost"))

    def _wait(self, handles: Sequence[Simulated]) -> list[tuple[Simulated, Any]]:
        self.clock.work(time.process_time() - self.clock.mark)
        self.clock.now = max(self.clock.now, self.events[0][0])
        replies: list[tuple[Simulated, Any]] = []
        while self.events and self.events[0][0] <= self.clock.now:
            _, _, worker, reply = heapq.heappop(self.events)
            self.lost += isinstance(reply, Lost)
            replies.append((worker, reply))
        self.clock.mark = time.process_time()
        return replies

    def _stop(self, handle: Simulated) -> None:
        pass


class Spread(Simulation):
    """A scheduler that is not the product's: who has nothing to do goes where most units are left for each worker, so
    that as few as can be share a mini-batch."""

    def _choose(self, left: Mapping[int, int], at_work: Counter[int | None]) -> int:
        return max(left, key=lambda number: left[number] / (1 + at_work[number]))


def simulate(
    count: int, world: World, seconds: Sequence[float], opening: float, kind: type[Simulation] = Simulation
) -> Simulation:
    """A ranking of all formats on all mini-batches."""
    workload = small(MINIBATCHES)
    units = [Unit(number, index, (Effect.E,)) for number in range(MINIBATCHES) for index in range(len(CANDIDATES))]
    with kind(count, world, seconds, opening) as pool:
        for _ in pool.run(Work(Measuring(workload), CANDIDATES, workload.minibatches(), units)):
            pool.clock.work(world.storing)
        return pool


def main() -> None:
    """Count, simulate and print."""
    world = World(taking_in())
    recorded = pd.read_parquet(HERE / "exhaustive_resnet20.parquet")
    times = recorded[recorded.effect == Effect.E].seconds.to_numpy()
    print(world)

    def row(count: int, of: World, scale: float, kind: type[Simulation] = Simulation) -> None:
        seconds, opening = (scale * times).tolist(), scale * float(np.median(times)) / UNIT
        alone = len(CANDIDATES) * MINIBATCHES * float(np.mean(seconds)) + MINIBATCHES * opening
        found = simulate(count, of, seconds, opening, kind)
        print(
            f"{count:>7} {found.clock.now / 60:9.2f} {alone / found.clock.now:9.1f} "
            f"{alone / found.clock.now / count:9.0%} {found.clock.busy / found.clock.now:12.1%} {found.lost:5} "
            f"{found.opened:7}",
            flush=True,
        )

    head = (
        f"{'workers':>7} {'minutes':>9} {'speed-up':>9} {'of ideal':>9} {'driver busy':>12} {'lost':>5} {'opened':>7}"
    )
    for scale in (1.0, LARGER):
        print(f"units of {scale * np.median(times):.2f} s in the median, {scale * np.mean(times):.2f} s in the mean")
        print(head)
        for count in WORKERS:
            row(count, world, scale)
    print("1000 workers, units of the larger network, without")
    for what, changed in {
        "start-up": replace(world, start=0.001),
        "stragglers and slow workers": replace(world, straggling=0.0, slow=0.0),
        "losses": replace(world, lost_every=1e12),
        "storing": replace(world, storing=0.0),
        "any of them": World(0.0, 0.001, 1e12, 0.0, 1.0, 0.0),
    }.items():
        print(what)
        row(1000, changed, LARGER)
    print("units of the larger network, workers spread over mini-batches")
    print(head)
    for count in WORKERS[1:]:
        row(count, world, LARGER, Spread)


if __name__ == "__main__":
    main()
