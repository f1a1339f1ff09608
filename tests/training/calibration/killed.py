"""A quantization that is killed in the middle of a layer. Run as `python -m tests.training.calibration.killed
FOLDER`."""

import os
import signal
import sys

import torch

from tests.training.calibration import networks
from training.calibration import AdaRound, quantize

OPTIONS = {
    "weights": "INT3",
    "adaround": AdaRound(iterations=20, checkpoint_every=6),
    "rank_layers": False,
    "minibatches": 3,
}


def _kill(at):
    # In the second layer, past its checkpoint after iteration 12.
    if at.stage == "AdaRound" and at.done == 20 + 15:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    quantize(networks.trained(8), output=sys.argv[1], progress=_kill, **OPTIONS)
