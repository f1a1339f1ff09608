"""The list of a workload's points."""

from collections.abc import Sequence

from predictor.columns import NETWORK
from predictor.gradient.gradients import Gradients
from predictor.measuring.self_check import check
from workloads.workload import Workload


def list_points(
    workload: Workload, exact: Sequence[str] = (), batch_size: int | None = None
) -> tuple[list[list[str]], list[list[str]], str]:
    """What a workload's points are, as rows of text.

    Args:
        workload: whose network and first mini-batch.
        exact: layers kept in full precision.
        batch_size: examples of the mini-batch, by default the workload's.

    Returns:
        Points (index, layer, operation, shape, remark); what depends on the input and has none (layer, operation,
        shape, why); a sentence that says how much the points cover.

    Raises:
        ValueError: the workload cannot be measured.
    """
    batch = workload.minibatches(batch_size)[0]
    with Gradients(workload, batch, exact=exact, watched=True) as gradients:
        points, skipped = gradients.flow.points, list(gradients.flow.skipped)
        checked = check(gradients)
    listed = []
    for point in points:
        remarks = [
            text
            for said, text in (
                (point.exact, "exact"),
                (point.two_terms, "two terms (A)"),
                (point.last, "two terms (E)"),
            )
            if said
        ]
        shape = " x ".join(map(str, point.shape))
        call = f" #{point.call}" if point.call else ""
        listed.append([str(point.index), point.layer or NETWORK, point.operation + call, shape, ", ".join(remarks)])
    others = [
        [entry.layer or NETWORK, entry.operation, " x ".join(map(str, entry.shape)), entry.reason]
        for entry in (*skipped, *checked.coverage.unseen)
    ]
    return listed, others, checked.sentence
