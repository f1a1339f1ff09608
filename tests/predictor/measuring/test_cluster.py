"""A real Ray cluster of two nodes on this machine, one of which is killed."""

import importlib.util
import json
import os
import sys

import pytest

from predictor.measuring.cluster import Cluster
from tests.processes import PATIENCE, ROOT, python

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from ray.cluster_utils import Cluster as Nodes
from predictor.effects import DEFAULT_EFFECTS
from predictor.effects import Effect
from formats.pairs import candidate
from predictor.measuring import cluster as module
from predictor.measuring.cluster import Cluster
from tests.nets import Refusing, net, waiting_loss
from tests.predictor.measuring.bits import bits, measured
from tests.processes import PATIENCE

module.PATIENCE = PATIENCE
gone = Path(sys.argv[1])

torch.set_num_threads(1)
candidates = [candidate(name) for name in ("FP134", "INT8", "BM43", "FP143+FP152", "NF4", "E4M3")]
workload = net(batches=12)
here = bits(measured(workload, candidates, workload.batches, DEFAULT_EFFECTS))
nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
first, second = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
nodes.wait_for_nodes(timeout=PATIENCE)
held = net(batches=12, loss=lambda model, batch: waiting_loss(model, batch, gone))
with Cluster(nodes.address) as cluster:
    said = {"processes": cluster.count}
    found, killed = [], False
    for m in measured(held, candidates, workload.batches, DEFAULT_EFFECTS, executor=cluster):
        found.append(m)
        if not killed and sum(member.handle.began for member in cluster._members) == 2:
            nodes.remove_node(second, allow_graceful=False)
            gone.touch()
            killed, said["killed after"], both = True, len(found), list(cluster._members)
    said["equal"], said["of"] = bits(found) == here, len(here)
    said["lost"] = sum(member not in cluster._members for member in both)
    try:
        list(measured(workload, [Refusing()], workload.batches, [Effect.E], executor=cluster))
    except ValueError as error:
        said["error"] = str(error)
nodes.shutdown()
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'numeric-formats[cluster]'"
)
def test_two_nodes_of_which_one_is_killed(tmp_path):
    patience = {"RAY_raylet_start_wait_time_s": int(PATIENCE), "RAY_gcs_server_request_timeout_seconds": int(PATIENCE)}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = python("-c", SCRIPT, tmp_path / "gone", PYTHONPATH=path, RAY_USAGE_STATS_ENABLED=0, **patience)
    said = json.loads(done.stdout.splitlines()[-1])
    assert 0 < said.pop("killed after") < said["of"]
    assert said == {"processes": 2, "equal": True, "of": 12 * 6 * 3, "lost": 1, "error": "refusing rounds nothing"}


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ImportError, match=r"a cluster needs Ray, which is not installed: pip install 'numeric-formats\[cluster\]'"
    ):
        Cluster("auto")
    with pytest.raises(ValueError, match="0 threads"):
        Cluster("auto", threads=0)
