"""What is said of recipes."""

import pandas as pd

from predictor.recipe_table import COLUMNS
from reports.tables.recipes import disagreements


def of(rows, n=4):
    given = [
        {"recipe": name, "product": "all", "part": "everywhere", "rank_by_projection": one, "rank_by_angle": other}
        for name, one, other in rows
    ]
    return pd.DataFrame(given, columns=list(COLUMNS)).assign(n=n)


def test_the_pairs_that_projection_and_angle_put_the_other_way_round_are_named():
    said = disagreements(of([("bf16", 1, 1), ("mxfp4", 2, 3), ("nvfp4", 3, 2), ("mxfp8", 3, 4)]))
    assert said == ["the projection puts mxfp4 before nvfp4; the angle of the mean says the opposite"]
    # Those that share a rank are not told apart.
    assert disagreements(of([("mxfp4", 2, 3), ("nvfp4", 2, 2)])) == []
    assert disagreements(of([("mxfp4", 2, 3), ("nvfp4", 3, 3)])) == []
    assert disagreements(of([("mxfp4", 2, 3), ("nvfp4", 3, 2)], n=1)) == []
    many = disagreements(of([(f"r{place}", place, 9 - place) for place in range(5)]))
    assert many[0].startswith("the projection puts r0 before r1, r0 before r2, ")
    assert ", and 4 more pairs; the angle" in many[0]
