"""What a network takes that is not computed: products and memory of a mini-batch, from the shapes of its tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch._subclasses.fake_tensor import FakeTensorMode

from numeric_formats.messages import one_line
from predictor.requirements.memory import Memory, memory_of
from predictor.requirements.multiply_accumulates import ProductCost, product_costs
from workloads.containers import map_tensors
from workloads.copies import without_numbers
from workloads.workload import Batch, Workload


@dataclass(frozen=True)
class Outlook:
    """What a network takes on a mini-batch.

    Attributes:
        products: all that it has.
        memory: of a quantized gradient.
        by_shapes: whether it was followed by the shapes of its tensors; else it was carried out.
    """

    products: list[ProductCost]
    memory: Memory
    by_shapes: bool


def foreseen(workload: Workload, batch: Batch) -> Outlook:
    """The products of a network on a mini-batch, and the memory of a quantized gradient.

    The forward pass is followed by shapes alone, which takes no memory and next to no time; parameters may be on the
    meta device. A network that looks at numbers on the way, as one that sends tokens to experts does, is carried out.

    Raises:
        ValueError: it looks at numbers, and is on the meta device.
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as shapes:
            apart = replace(workload, model=without_numbers(workload.model))
            followed = map_tensors(shapes.from_tensor, batch)
            return Outlook(product_costs(apart, followed), memory_of(apart, followed), by_shapes=True)
    except ValueError as reason:  # which `workloads.calls` makes of whatever a network's own code raises
        if any(p.is_meta for p in workload.model.parameters()):
            raise ValueError(
                f"the network of workload {workload.name} is on the meta device, and cannot be followed by shapes: "
                f"{one_line(reason)}"
            ) from reason
    return Outlook(product_costs(workload, batch), memory_of(workload, batch), by_shapes=False)
