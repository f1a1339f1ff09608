"""Orders of formats that others found by training, held against angles: the expected ones were written down first
(docs/results/prediction.md).

    python benchmarks/external_orders.py

Angles of AE and E under the default scheme on the pretrained networks that come with the package, which are not the
networks of those papers. Printed for each order: what was published, the angles, and Kendall's tau-b of the two, where
equal published numbers are ties.
"""

import torch
from scipy import stats

from predictor import measure
from predictor.measuring.store import Store
from workloads import load

IMAGES, TEXT = ("resnet18", "resnet20", "mobilenetv2"), ("transformer", "lstm")
ORDERS = {
    "Block Minifloat (Fox et al., ICLR 2021), ResNet-18 on CIFAR-100, points lost to 77.5": (
        IMAGES,
        {"BM23+BM32": 0.3, "BM22+BM31": 1.4, "BM21+LOG4/tile48x48": 3.8},
    ),
    "8 bits on ImageNet, points lost: SWALP 4.5, HFP8 0, BM8 -0.1": (
        IMAGES,
        {"INT8": 4.5, "FP143+FP152": 0.0, "BM25+BM43": -0.1},
    ),
    "scaling law for floating-point training (arXiv:2501.02423), 8 bits, channel scales, relative penalty": (
        TEXT,
        {"FP143/channel": 1.0, "FP134/channel": 1.06, "FP152/channel": 1.42}
        | {"FP125/channel": 1.72, "FP161/channel": 3.8, "FP116/channel": 5.4},
    ),
    "the same, 6 bits": (
        TEXT,
        {"FP132/channel": 1.0, "FP123/channel": 1.08, "FP141/channel": 2.0, "FP114/channel": 2.6},
    ),
}
MINIBATCHES, BATCH = 8, 32

torch.set_num_threads(1)
for order, (networks, published) in ORDERS.items():
    print(order)
    print(f"  {'format':22}{'published':>10}" + "".join(f"{f'{e}, {n}':>18}" for n in networks for e in ("E", "AE")))
    angles = {}
    for network in networks:
        with Store.open() as store:
            found = measure(load(network), list(published), ["E", "AE"], MINIBATCHES, batch_size=BATCH, store=store)
        for effect in ("E", "AE"):
            angles[network, effect] = found[found["effect"] == effect]["angle"].tolist()
    for place, (name, number) in enumerate(published.items()):
        print(f"  {name:22}{number:10.2f}" + "".join(f"{of[place]:18.2f}" for of in angles.values()))
    taus = [stats.kendalltau(of, list(published.values())).statistic for of in angles.values()]
    print(f"  {'tau-b':22}{'':10}" + "".join(f"{tau:18.2f}" for tau in taus), flush=True)
