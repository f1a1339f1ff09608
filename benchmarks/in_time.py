"""Does `--time` keep its word? A ranking of the whole catalogue in so many seconds, with nothing measured before.

    python -m benchmarks.in_time NETWORK SECONDS ... >> benchmarks/in_time.txt

NETWORK is a bundled one, or resnet50 with random weights at 224 x 224, 4 images a mini-batch. Needs a quiet machine. A
time is kept where no more than 110% of it are used, and where less than 90% are, the ranking says why. The first line
of a network says what it is, the others what each ranking did.
"""

from typing import Annotated

import typer

from benchmarks.larger import NAMES, larger
from benchmarks.rank_time import gradient_seconds
from search import rank
from workloads import Workload, load

MOST, LEAST = 1.1, 0.9
IMAGES = 4


def network(name: str) -> Workload:
    """A bundled network, or a larger one."""
    return larger(name, IMAGES) if name in NAMES else load(name)


def main(name: str, seconds: Annotated[list[float], typer.Argument()]) -> None:
    """Rank and judge."""
    workload = network(name)
    weights = sum(p.numel() for p in workload.model.parameters())
    print(f"{name}: {weights / 1e6:.2f} M weights, {gradient_seconds(workload):.3f} s a full-precision gradient")
    kept = True
    for asked in seconds:
        try:
            of = rank(network(name), yardsticks=True, seconds=asked).settings
        except ValueError as refused:
            print(f"asked {asked:5.1f} s: {refused}", flush=True)
            continue
        used = asked - (of.left or 0.0)
        beyond = f", then {of.beyond} more" if of.beyond else ""
        why = f" ({of.unspent})" if of.unspent else ""
        print(f"asked {asked:5.1f} s, used {used:5.1f} s, {used / asked:4.0%}: {of.policy}{beyond}{why}", flush=True)
        kept &= used <= MOST * asked and (used >= LEAST * asked or bool(of.unspent))
    print("all kept" if kept else "NOT KEPT")
    raise typer.Exit(not kept)


if __name__ == "__main__":
    typer.run(main)
