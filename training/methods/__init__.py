"""Published training methods, one file each, for `train(workload, method=...)` (docs/definitions/methods.md)."""

from training.methods.combined import Combined, combine
from training.methods.compensation import Compensation
from training.methods.dai8 import DistributionAdaptiveInt8
from training.methods.lsq import LSQ
from training.methods.lsqplus import LSQPlus
from training.methods.method import Method, MethodState, quantized
from training.methods.names import METHODS, described, method_from
from training.methods.octo import Octo
from training.methods.slb import SLB
from training.methods.ui8 import UnifiedInt8

__all__ = [
    "LSQ",
    "METHODS",
    "SLB",
    "Combined",
    "Compensation",
    "DistributionAdaptiveInt8",
    "LSQPlus",
    "Method",
    "MethodState",
    "Octo",
    "UnifiedInt8",
    "combine",
    "described",
    "method_from",
    "quantized",
]
