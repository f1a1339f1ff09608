"""A real Ray cluster of two nodes on this machine, one of which is killed; and addresses where there is none."""

import importlib.util
import json
import os
import socket
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from predictor.measuring import greeting
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


class Ray:
    """Where Ray would connect to, which is then enough."""

    def is_initialized(self):
        return False

    def init(self, address, **given):
        raise ConnectionError(f"asked for {address}")


@pytest.fixture
def ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", Ray())
    monkeypatch.setattr(greeting, "ANSWER", 0.3)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@contextmanager
def listening(answer):
    """A server that says this to whoever comes; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                links.append(link)
                link.sendall(answer)

        links = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for link in links:
            link.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


SETTINGS = bytes((0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100))
OF_GRPC = SETTINGS + bytes((0, 0, 2, 1, 4, 0, 0, 0, 1, 0x3F, 0x88))
OF_A_PROXY = SETTINGS + bytes((0, 0, 1, 1, 5, 0, 0, 0, 1, 0x8D))  # 404


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OF_GRPC, "asked for"),
        (b"", "timed out"),  # as a firewall, or a process that hangs
        (OF_A_PROXY, "what listens there is no Ray server"),
        (SETTINGS, "timed out"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what listens there is no Ray"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what listens there is no Ray"),
    ],
)
def test_what_answers_at_the_address(ray, answer, said):
    with listening(answer) as address, pytest.raises(ValueError, match=f"no Ray cluster at {address}: .*{said}"):
        Cluster(address)


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_nothing_answers_at_the_address(ray, prefix):
    address = f"{prefix}127.0.0.1:{free_port()}"
    with pytest.raises(
        ValueError, match=f"there is no Ray cluster at {address}: nothing answers at {address} .*refused"
    ):
        Cluster(address)


@pytest.mark.parametrize("address", ["nowhere", "host:", ":1", "host:port", "host:0", "host:65536", "", "[::1]"])
def test_what_is_no_address(ray, address):
    with pytest.raises(ValueError, match=r"is no address; auto or host:port is needed"):
        Cluster(address)


def test_a_name_that_nobody_knows(ray, monkeypatch):
    def unknown(address, timeout):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(ValueError, match=r"nothing answers at nohost:1 .*Name or service not known"):
        Cluster("nohost:1")


def test_a_name_that_is_looked_up_for_ever(ray, monkeypatch):
    given_up = threading.Event()

    def look_up(address, timeout):
        given_up.wait()
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "create_connection", look_up)
    with pytest.raises(ValueError, match=r"nothing answers at nohost:1 \(timed out\)"):
        Cluster("nohost:1")
    given_up.set()


def test_a_cluster_that_has_ended_is_not_waited_for(ray, monkeypatch):
    """`auto` where the last cluster has left its address."""
    place = f"127.0.0.1:{free_port()}"
    services = SimpleNamespace(canonicalize_bootstrap_address=lambda address: place)
    monkeypatch.setitem(sys.modules, "ray._private.services", services)
    with pytest.raises(
        ValueError, match=f"nothing answers at {place} .*, where the last cluster was; ray start --head"
    ):
        Cluster("auto")
    with listening(OF_GRPC) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ValueError, match=f"at auto: asked for {address}"):
            Cluster("auto")
