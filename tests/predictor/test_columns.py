"""Names of columns, and what is read back from them."""

from predictor.columns import DESCRIBED, RANK, angle_column, effects_in, low_column, networks_in, on_network


def test_effects_and_networks_come_back_in_order():
    columns = [RANK, *DESCRIBED, *(column(e) for e in ("E", "AE") for column in (angle_column, low_column))]
    assert effects_in(columns) == ["E", "AE"]
    assert networks_in(columns) == []
    assert networks_in([*columns, *(on_network(RANK, name) for name in ("b", "a"))]) == ["b", "a"]
