"""Training runs of methods that are killed, for the test of resuming. Run as `python -m tests.training.methods.killed
FOLDER`."""

import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # what optimizers load when they are made: once here, not in each child

from tests.training import small
from training import train
from training.methods import LSQ, SLB, Compensation, DistributionAdaptiveInt8, LSQPlus, Octo, UnifiedInt8, combine

ALL = {
    "octo": Octo(rounding="stochastic"),
    "octo-channel": Octo(clip_output=True, tied=True, format="FP134"),
    "octo-demo": Octo(arithmetic="octo-demo"),
    "dai8": DistributionAdaptiveInt8(direction_rate=True, error_format="INT4"),
    "ui8": UnifiedInt8(period=3, activation_threshold="ema"),
    "ui8-grad": UnifiedInt8(period=3, search="grad", format="E4M3"),
    "lsq": LSQ(per_channel=True),
    "lsqplus": LSQPlus(weight_bits=2, activation_bits=2),
    "slb": SLB(bits=2, t_end_time=0.9, bn_calibration=True, activations=True, activation_delay=4, scale="per-layer"),
    "lsq+ui8+lac": combine([LSQ(), UnifiedInt8(period=3), Compensation()]),
    "slb+dai8": combine([DistributionAdaptiveInt8(), SLB(t_end_time=0.9)]),
}


def options_of(name):
    """How a method is trained."""
    optimizer = "adamw" if name in ("octo", "slb") else "sgd"
    return {
        "epochs": 2,
        "rate": 0.05,
        "checkpoint_every": 3,
        "angle_every": 4,
        "warmup": 2,
        "optimizer": optimizer,
        "method": ALL[name],
    }


def _kill(at):
    if at.done == 14:
        os.kill(os.getpid(), signal.SIGKILL)


def main(output):
    """Each method in a process of its own, killed after step 14 of 16, past the checkpoint at step 12; forked, since
    loading torch takes longest."""
    torch.set_num_threads(1)
    for name in ALL:
        child = os.fork()
        if not child:
            train(small.workload(), output=output / name, **options_of(name), progress=_kill)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(name, os.WTERMSIG(status) if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
