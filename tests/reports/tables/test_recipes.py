"""What is said of recipes."""

import pandas as pd

from predictor.recipe_comparison.table import COLUMNS
from reports.tables.recipes import disagreements, worst_parts


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


def test_what_turns_the_gradient_most_is_said_in_words():
    rows = [
        ("all", "all", "everywhere", 12.0),
        ("fprop", "all", "everywhere", 11.0),
        ("dgrad", "all", "everywhere", 3.0),
    ]
    rows += [("all", name, "alone", angle) for name, angle in (("a", 3.0), ("b", 4.0), ("c", 1.0), ("d", None))]
    rows += [("all", "b", "without", 20.0), ("wgrad", "a", "alone", 0.5), ("fprop", "b", "alone", 2.0)]
    names = ["product", "layer", "part", "angle_of_mean"]
    given = [{"recipe": "mxfp8", **dict(zip(names, row, strict=True))} for row in rows]
    assert worst_parts(pd.DataFrame(given, columns=list(COLUMNS))) == [
        "mxfp8, products alone: fprop 11, dgrad 3 degrees",
        "mxfp8, layers alone: b 4, a 3, c 1 degrees turn it most; 1 of 3 hold half of the sum of the squares",
        "mxfp8, their products alone: fprop of b 2, wgrad of a 0.5 degrees turn it most; 1 of 2 hold half of the sum "
        "of the squares",
    ]
    assert worst_parts(pd.DataFrame(given[:1], columns=list(COLUMNS))) == []
