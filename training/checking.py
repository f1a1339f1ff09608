"""Before anything is trained: the flow that rounds is what torch computes, and rounds what products see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from predictor.flow.sites import Site
from predictor.measuring.self_check import Checked
from predictor.measuring.session import Measuring
from predictor.measuring.store import Store
from workloads.workload import Workload

_CHECKED: WeakKeyDictionary[Workload, Checked | str] = WeakKeyDictionary()
"""One check serves all runs of a workload in this process."""


def check_flow(workload: Workload, store: Store | None) -> Checked | str:
    """What the flow's check of itself found, once a workload; a string says why none can be made.

    Args:
        workload: Whose network and first mini-batch.
        store: Where checks are found and kept; None keeps none.

    Raises:
        ValueError: Where the flow is not what torch computes (`predictor.measuring.self_check`).
    """
    if workload not in _CHECKED:
        _CHECKED[workload] = Measuring(workload, store=store).check(workload.minibatches()[0])
    return _CHECKED[workload]


def check_weights_seen(computed: Iterable[Site]) -> None:
    """ValueError where weights are to be rounded and a product sees others, computed from those."""
    for site in computed:
        assert site.origin is not None  # it is computed
        raise ValueError(
            f"layer {site.layer or '(network)'}: its weight is computed from {', '.join(site.origin.parameters)}; a "
            "format of weights would round those, and not what the product sees: give weights float32 (-W float32), "
            "use a method, or make it a parameter (torch.nn.utils.parametrize.remove_parametrizations)"
        )


def check_memory(workload: Workload) -> None:
    """ValueError where two parameters lie in the same memory: a copy of the network would train them apart."""
    places: dict[int, list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter in workload.model.named_parameters():
        places[parameter.untyped_storage().data_ptr()].append((name, parameter))
    for place, together in places.items():
        if not place or len(together) < 2:
            continue
        elements = max(p.untyped_storage().nbytes() // p.element_size() for _, p in together)
        taken = torch.zeros(elements, dtype=torch.bool)
        for name, parameter in together:
            own = taken.as_strided(parameter.shape, parameter.stride(), parameter.storage_offset())
            if own.any():
                raise ValueError(
                    f"parameter {name} of workload {workload.name} lies in the memory of {together[0][0]} and is "
                    "another one, so that a copy of the network would train them apart; make both the same nn.Parameter"
                )
            own.fill_(True)
