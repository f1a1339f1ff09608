"""A ranking on three Ray nodes of which one is killed, and a fourth joins late: the same bits as in one process.

    python -m benchmarks.ray_nodes > benchmarks/ray_nodes.txt

All nodes are processes of this machine, of one processor each (extra `cluster`). The ranking is of 60 formats on the
bundled ResNet-20 with mini-batches of 16. A node is killed after so many measurements, and the other joins after as
many more.
"""

import sys
import time

import ray
import torch
from ray.cluster_utils import Cluster as Nodes

import formats
from numeric_formats.progress import Progress
from predictor.measuring.cluster import Cluster
from search import rank
from search.stages import Stage
from workloads import load

CANDIDATES = [entry.name for entry in list(formats.catalogue())[::8]][:60]
AFTER = 10
BATCH = 16


def main() -> None:
    """Rank twice."""
    torch.set_num_threads(1)
    began = time.monotonic()
    alone = rank(load("resnet20"), CANDIDATES, batch_size=BATCH)
    print(f"one process: {alone.settings.gradients} gradients, {time.monotonic() - began:.0f} s")
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    third = nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)  # whose own words about the killed node go to stderr
    printed, sys.stdout = sys.stdout, sys.stderr
    events: list[str] = []
    measured = 0

    def watch(progress: Progress) -> None:
        nonlocal measured
        if progress.stage not in (Stage.ANCHORS, Stage.RACE):
            return
        measured += 1
        if measured == AFTER:
            nodes.remove_node(third, allow_graceful=False)
            events.append(f"a node killed in {progress.stage}, at {progress.done} of {progress.total}")
        elif measured == 2 * AFTER:
            nodes.add_node(num_cpus=1)
            events.append(f"a node joined in {progress.stage}, at {progress.done} of {progress.total}")

    with Cluster(nodes.address) as cluster:
        print(f"three nodes: {cluster.count} processes", file=printed)
        began = time.monotonic()
        spread = rank(load("resnet20"), CANDIDATES, batch_size=BATCH, executor=cluster, progress=watch)
        took = time.monotonic() - began
        alive = sum(node["Alive"] for node in ray.nodes())
    sys.stdout = printed
    print(*events, f"{spread.settings.gradients} gradients, {took:.0f} s, {alive} nodes alive at the end", sep="\n")
    columns = [name for name in alone.table.columns if name != "seconds"]
    same = spread.table[columns].equals(alone.table[columns])
    print("the same bits" if same and len(events) == 2 else "SOMETHING DIFFERS")
    ray.shutdown()
    nodes.shutdown()
    raise SystemExit(not same or len(events) != 2)


if __name__ == "__main__":
    main()
