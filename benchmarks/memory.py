"""Memory of a ranking beside that of one full-precision gradient, on larger networks with random weights.

    python -m benchmarks.memory > benchmarks/memory.txt

ResNet-50 at 224 x 224 with 8 images a mini-batch, and a Transformer of GPT-2-small's size with 2 sequences of 256. Each
line is a process of its own, on one thread: what it takes at the peak above what it had once all packages were loaded
and nothing was made, network included, in MiB and as a multiple of what one full-precision gradient takes. The gradient
is torch's alone. The ranking is of every eighth format over one mini-batch, by its usual stages, with what it is held
against; its peak in each is in the second line.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import formats
from benchmarks.larger import NAMES, larger
from predictor.gradient.gradients import measured_parameters
from predictor.measuring.store import Store
from search import rank

EXAMPLES = {"resnet50": 8, "gpt2": 2}
EVERY = 8
MOST = 2.2
MIB = 1 << 20


def resident(what: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def child(name: str, what: str) -> None:
    """One line's process: prints MiB, of a ranking by stage."""
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.resnet.modeling_resnet  # noqa: F401

    before, peaks = resident("VmRSS"), []
    of = larger(name, EXAMPLES[name], minibatches=4)

    def ends(stage: str) -> None:
        peaks.append(f"{resident('VmHWM') - before:.0f} {stage}")
        Path("/proc/self/clear_refs").write_text("5")

    if what == "gradient":
        measured = measured_parameters(of.model)
        loss = of.loss_of(of.model.eval(), of.minibatches()[0])
        torch.autograd.grad(loss, [p for p in of.model.parameters() if id(p) in measured])
        ends(what)
    else:
        with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store") as store:
            rank(
                of,
                list(formats.catalogue())[::EVERY],
                minibatches=1,
                store=store,
                yardsticks=True,
                so_far=lambda r: ends(r.settings.stage),
            )
        ends("yardsticks")
    print("; ".join(peaks))


def main() -> None:
    """Every line."""
    kept = True
    for name in NAMES:
        alone = 0.0
        for what in ("gradient", "rank"):
            command = [sys.executable, "-m", "benchmarks.memory", name, what]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
            most = max(float(part.split(" ")[0]) for part in told.split("; "))
            alone = alone or most
            print(f"{name:9} {what:9} {most:7.0f} MiB {most / alone:5.2f} x\n    {told}", flush=True)
            kept &= most <= MOST * alone
    print("all as promised" if kept else "SOMETHING FALLS SHORT")
    raise SystemExit(not kept)


if __name__ == "__main__":
    torch.set_num_threads(1)
    child(*sys.argv[1:]) if sys.argv[1:] else main()
