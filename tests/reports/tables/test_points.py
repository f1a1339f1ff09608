"""Points: equal layers in one row."""

from reports.tables.points import tables_of


def rows_of(*parts):
    return [list(zip(*(map(str, column.cells) for column in part.columns), strict=True)) for part in parts]


def test_layers_that_differ_in_a_number_are_one_row():
    listed = [["0", "(network)", "input", "4 x 8", "two terms (A)"]]
    for block in range(5):
        for expert in range(2):
            listed.append([str(len(listed)), f"h.{block}.mlp.{expert}", "linear", "4 x 8", ""])
        # The third is exact and another's shape is its own, so that neither is like the others.
        own = ("4 x 16" if block == 1 else "4 x 8", "exact" if block == 2 else "")
        listed.append([str(len(listed)), f"h.{block}", "add", *own])
    skipped = [[f"h.{block}.mlp", "view", "4 x 8", "moves"] for block in (0, 0, 1, 4)]
    found, others, count, said = tables_of("net", listed, skipped, "all")
    shown, below = rows_of(found, others)
    assert shown == [
        ("0", "(network)", "input", "4 x 8", "two terms (A)"),
        ("1, 2, ... 14 (10)", "h.0-4.mlp.0-1", "linear", "4 x 8", ""),
        ("3, 12, 15", "h.0,3-4", "add", "4 x 8", ""),
        ("6", "h.1", "add", "4 x 16", ""),
        ("9", "h.2", "add", "4 x 8", "exact"),
    ]
    assert below == [("h.0-1,4.mlp", "view", "4 x 8", "moves", "4 times")]
    assert (count, said) == ("16 points; equal layers in one row, --long has a row each", "all")
    every = rows_of(*tables_of("net", listed, skipped, "all", long=True)[:2])
    assert [[list(row) for row in rows] for rows in every] == [listed, skipped]
