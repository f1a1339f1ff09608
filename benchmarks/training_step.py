"""What a training step costs with everything rounded, against one in full precision: time and peak memory.

    python benchmarks/training_step.py resnet18 --batch-size 128

Rounded is the default scheme: FP134 for activations, errors, weights and gradients, hysteresis, FP169 for master
weights and momentum. Full precision is torch.optim.SGD and nothing of this project. The two take turns in one process;
the medians are compared. Peak memory is what two steps, with what they are prepared by, add to the resident memory of a
process of their own (Linux only).
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

import formats
from training.scheme import TensorFormats
from training.settings import TrainingSettings
from training.step import Trainer
from workloads import Workload, load


def resident(which: str) -> float:
    """Resident memory of this process in MiB: VmRSS now, VmHWM at its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def full_step(workload: Workload, batch: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], None]:
    """A step of plain torch."""
    model = workload.model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        optimizer.zero_grad()
        workload.loss(model, batch).backward()
        optimizer.step()

    return step


def rounded_step(workload: Workload, batch: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], None]:
    """A step of the harness."""
    fp134 = formats.get("FP134")
    tensor_formats = TensorFormats(
        activation=fp134, error=fp134, weight=fp134, gradient=fp134, master=formats.get("FP169")
    )
    trainer = Trainer(
        workload, workload.model.train(), tensor_formats, TrainingSettings(epochs=1, rate=0.01), steps=1000
    )

    def step() -> None:
        with trainer:
            trainer.step(batch)

    return step


STEPS = {"full": full_step, "rounded": rounded_step}


def peak_memory(model: str, batch_size: int, threads: int, which: str) -> float:
    """MiB by which two steps raise the peak of a new process."""
    arguments = [model, "--batch-size", batch_size, "--threads", threads, "--memory-of", which]
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(
    model: Annotated[str, typer.Argument(help="a bundled network or file.py:function")] = "resnet18",
    batch_size: Annotated[int, typer.Option(help="examples a mini-batch")] = 128,
    repeats: Annotated[int, typer.Option(help="counted steps of each; the median is printed")] = 5,
    threads: Annotated[int, typer.Option(help="threads of the process")] = 1,
    memory_of: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time the two steps, then measure their memory."""
    torch.set_num_threads(threads)
    if memory_of is not None:
        workload = load(model)
        batch = workload.minibatches(batch_size)[0]
        # Loads and compiles what the measured steps run.
        small = load("resnet20")
        STEPS[memory_of](small, small.minibatches(2)[0])()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident("VmRSS")
        step = STEPS[memory_of](workload, batch)
        step()
        step()
        print(resident("VmHWM") - before)
        return
    steps = {}
    for name, make in STEPS.items():
        workload = load(model)
        steps[name] = make(workload, workload.minibatches(batch_size)[0])
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for counted in range(-1, repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if counted >= 0:
                taken[name].append(time.perf_counter() - began)
    base = statistics.median(taken["full"])
    memory = {name: peak_memory(model, batch_size, threads, name) for name in STEPS}
    print(f"{model}, batch {batch_size}, {threads} threads, torch {torch.__version__}, median of {repeats}")
    print(f"{'step':10} {'seconds':>8} {'x full':>7} {'peak MiB':>9} {'x full':>7}")
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{name:10} {median:8.3f} {median / base:7.2f} {memory[name]:9.0f} {memory[name] / memory['full']:7.2f}")


if __name__ == "__main__":
    typer.run(main)
