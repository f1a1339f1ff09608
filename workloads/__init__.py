"""Workloads: a network, its mini-batches, its loss and its weights."""

import numeric_formats

numeric_formats.require("formats")

from workloads.names import load  # noqa: E402
from workloads.workload import Workload  # noqa: E402

__all__ = ["Workload", "load"]
