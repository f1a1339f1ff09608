"""A sample of benchmarks/kill_matrix.py: commands that are killed at a file operation, or whose disk is full there."""

import pytest

from benchmarks.kill_matrix import RANK, SCENARIOS, TRAIN, points, warm_up

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "command", "first"), [("rank --force", RANK, 24), ("train --force", TRAIN, 2)])
def test_a_command_that_is_killed_goes_on(tmp_path, name, command, first):
    warm_up([command])
    found = list(points(tmp_path, BY_NAME[name], every=9, first=first, most=2))
    assert len(found) >= 2 * 2
    assert [point for point in found if point[-1]] == []
