"""Where work units are measured: in this process, in others of this machine, or on a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from search.units import Executor, InProcess


def executor_of(workers: int | None = None, cluster: str | None = None, device: str = "cpu") -> AbstractContextManager[Executor]:
    """An executor, to be used as a context manager.

    workers: so many processes, which share torch's threads. cluster: the address of a Ray cluster, or "auto". Neither: this process. device: where the workload is.
    Raises ValueError for two of them at once or fewer than one worker, ImportError for a cluster without Ray.
    """
    if workers is not None and cluster is not None:
        raise ValueError("workers are processes of this machine, a cluster is other machines: give one of the two")
    if device != "cpu" and (workers is not None or cluster is not None):
        raise ValueError(f"device {device}: other processes measure on the CPU; give a device, workers or a cluster")
    if cluster is not None:
        from search.cluster import Cluster

        return Cluster(cluster)
    if workers is None:
        return nullcontext(InProcess())
    if workers < 1:
        raise ValueError(f"{workers} workers: at least 1 is needed")
    from search.workers import Workers

    return Workers(workers, max(1, torch.get_num_threads() // workers))
