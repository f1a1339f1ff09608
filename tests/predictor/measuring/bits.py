"""Measurements as bits, for comparison."""

from predictor.measuring.session import Measuring


def measured(workload, candidates, batches, effects, units=None, **how):
    """The measurements of units, made so."""
    return Measuring(workload, **how).measured(candidates, batches, effects, units)


def bits(found):
    """Bits by unit; each unit once."""
    found = list(found)
    by_unit = {(m.minibatch, m.format, m.effect): (m.parameters, m.sums.tobytes()) for m in found}
    assert len(by_unit) == len(found)
    return by_unit
