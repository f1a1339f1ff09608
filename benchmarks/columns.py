"""What projection, length, bias and loss cost beside the angle of a measurement, and what a measurement costs.

    python benchmarks/columns.py resnet20 lstm transformer resnet18

A measurement (E and AE of FP134 on one mini-batch of 64) is made as always, and in turns with it the part of it that
the columns other than the angle need: the sketches. Medians of both are compared in one process, one thread.
"""

import statistics
import sys
import time

import numpy as np
import torch

import formats
from formats.kernel import BUCKETS
from predictor.effects import Effect
from predictor.gradient.angle import layer_sums
from predictor.gradient.gradients import Gradients
from predictor.gradient.sketches import add_sketch
from workloads import load

TURNS = 15
BATCH = 64

torch.set_num_threads(1)
print("network           E and AE with all columns   sums of the angle   sketches   share of sketches")
for name in sys.argv[1:]:
    workload, fp134 = load(name), formats.get("FP134")
    whole, sums, sketches = [], [], []
    with Gradients(workload, workload.minibatches(BATCH)[0]) as gradients:
        for turn in range(TURNS):
            spent = [0.0, 0.0]
            began = time.perf_counter()
            for q in gradients.quantized(fp134, (Effect.E, Effect.AE)):
                before = time.perf_counter()
                layer_sums(q.gradients, q.reference)
                spent[0] += time.perf_counter() - before
                before, found = time.perf_counter(), np.zeros((2, BUCKETS))
                for changed, full in zip(q.gradients, q.reference, strict=True):
                    add_sketch(found, changed, full, 0)
                spent[1] += time.perf_counter() - before
            if turn:  # the first compiles
                whole.append(time.perf_counter() - began)
                sums.append(spent[0])
                sketches.append(spent[1])
    of = [statistics.median(times) for times in (whole, sums, sketches)]
    share = of[2] / (of[0] - of[2])
    print(f"{name:16} {of[0] * 1e3:22.1f} ms {of[1] * 1e3:18.2f} ms {of[2] * 1e3:7.2f} ms {share:16.2%}", flush=True)
