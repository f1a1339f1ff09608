"""Rankings: of one network, over several, and two side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from formats.hardware.totals import PRODUCTS
from numeric_formats.messages import counted, lasting
from predictor.columns import (
    BITS,
    GAP,
    GAP_HIGH,
    GATES,
    MEAN_RANK,
    NAME,
    NETWORK_NAME,
    PROFILE,
    PROJECTION,
    RANK,
    WORST,
    WORST_ON,
    angle_column,
    effects_in,
    high_column,
    low_column,
    n_column,
    networks_in,
    on_network,
)
from predictor.effects import Effect, Points, repeats_within
from predictor.risk import USUAL_PRECISION, bundled_trainings, division, mean_gaps
from reports.sources import Source, source_of
from reports.tables import costs
from reports.tables.cells import angle, correlations, gap, or_dash, rounded_where, wide
from reports.tables.layout import Part, plain
from reports.verdicts import undecided, verdict
from search.front import NETWORKS
from search.policy import in_words

if TYPE_CHECKING:
    from rich.table import Table

    from reports.comparison import Comparison
    from search.across import Across
    from search.planning import InTime, Plan
    from search.settings import RankingSettings
    from search.table import Ranking

MOST_REGRET = 0.5
"""Of the first format's own angle: a limit beyond it promises nothing."""
NAMED = 3
"""How many formats a remark names."""
READING = (
    "angles in degrees with 95% intervals; ~ an estimate, not measured on all mini-batches; formats of equal rank are "
    "in no order: none is told apart from the first of them"
)

NO_END = "?: a gap without an upper end, since trainings at such angles may diverge"


def plan(model: str, of: Plan) -> list[str]:
    """What a ranking would take, and what it would be in less time or more."""
    places = "points" if of.at is Points.DATAFLOW else "products with a weight"
    taken = (
        f"{model}: {of.points} {places}; {counted(of.candidates, 'format')}, at most {of.measured} measured on at most "
        f"{counted(of.minibatches, 'mini-batch')}: {counted(of.gradients, 'quantized gradient')} "
        f"(exhaustive: {of.exhaustive}), "
        f"about {lasting(of.seconds)}"
    )
    if not of.in_time:
        return [taken]
    source = f"regret, first ten and half-width: the worst in replays of AE on {NETWORKS} networks"
    return [taken, *map(_in_time, of.in_time), source]


def _in_time(of: InTime) -> str:
    told = f"--time {of.seconds / 60:g}m"
    if (tried := of.tried) is None:
        return f"{told}: too short, the screen alone takes about {lasting(of.screen)}"
    return (
        f"{told}: {in_words(tried.policy)}; regret {100 * tried.regret:.2g}%, {tried.top} of the first ten, intervals "
        f"of ±{100 * tried.half_width:.0f}%"
    )


def ranking(
    model: str, found: Ranking[RankingSettings], top: int, again: str, within: float, in_all: float
) -> list[Part]:
    """The first `top` formats of a ranking, and what it took. again: what becomes of measurements, and how it
    goes on where it ended early. within: the gap of formats that count as good as float32. in_all: seconds, loading
    included."""
    of = found.settings
    over = f"over {counted(of.minibatches, 'mini-batch')}, {rounded_where(of.points, of.scheme)}"
    title = f"{model}: {counted(of.candidates, 'format')} by the angle of {found.by} {over}"
    parts: list[Part] = [
        first_formats(found.table, top, f"{title}; {of.measured} measured", of.minibatches, within, of.yardsticks),
        *footnotes(found.table.head(top), of.minibatches, of.yardsticks, of.products),
    ]
    if of.minibatches > 1:
        parts += _wide(found.table.head(top), found.by, of.minibatches)
    if of.gap is not None:
        parts.append(f"{as_good(found.table, found.by, within)}; {of.gap}")
    settings = of.as_dict()
    if open_ := undecided(found.table, settings):
        parts.append(open_)
    if promise := _promise(found.table, found.by, of.regret_at_most):
        parts.append(promise)
    if of.points is Points.DATAFLOW and not {Effect.W, Effect.WAE} & set(of.effects):
        parts.append(_weights(of.weights_alone))
    parts += of.notes
    were = "was" if of.gradients == 1 else "were"
    needed = f"{counted(of.gradients, 'gradient')} {were} needed, {of.exhaustive_gradients} would measure all"
    parts.append(f"{needed}; {of.seconds:.0f} s of measuring, {in_all:.0f} s in all")
    if of.left is not None and of.policy:
        parts.append(_in_the_time(of))
    if of.coverage is not None:
        parts.append(of.coverage)
    if not found.complete:
        why = "the time budget" if of.budget_spent else "an interrupt"
        parts.append(f"ended early by {why}: {counted(of.gradients, 'measurement')} {were} made and {again}")
    return [*parts, f"verdict: {verdict(found.table, settings, within)}"]


def _in_the_time(of: RankingSettings) -> str:
    """What was measured in the time that a ranking had, and why some of it is left."""
    beyond = f", then {of.beyond} more measurements of the leaders" if of.beyond else ""
    left = max(0.0, of.left or 0.0)
    why = f": {of.unspent}" if of.unspent and left else ""
    return f"{of.policy}{beyond}, in the {of.time_budget:.0f} s that there were; {left:.0f} s were left{why}"


def _wide(rows: pd.DataFrame, by: str, minibatches: int) -> list[str]:
    """Whether intervals of what is no estimate say little."""
    measured = [row for _, row in rows.iterrows() if source_of(row, by, minibatches) is Source.MEASURED]
    columns = angle_column(by), low_column(by), high_column(by)
    return wide((*(row[column] for column in columns), minibatches) for row in measured)


def _how_it_trained(name: str) -> str:
    """What is known of a format that rankings are held against."""
    trainings = bundled_trainings()
    gaps = mean_gaps(trainings)
    if name not in gaps:  # of a file that another version wrote
        return f"{name}, below, trained well on the networks that gaps are told from"
    networks = trainings[NETWORK_NAME].nunique()
    place = "best" if name == gaps.index[0] else "well"
    return (
        f"{name}, below, trained {place} of {len(gaps)} formats on {networks} networks: its loss ended "
        f"{100 * gaps[name]:+.1f}% off float32's in the mean"
    )


def footnotes(
    rows: pd.DataFrame, minibatches: int, yardsticks: Sequence[Mapping[str, Any]], products: int | None
) -> list[str]:
    """What is needed to read rows of a ranking's table, shown over so many mini-batches and above formats that they are
    held against, with costs in sums of so many products."""
    trained = [str(row[NAME]) for row in yardsticks if row[NAME] != USUAL_PRECISION]
    found = [READING]
    found += [_how_it_trained(name) for name in trained]
    if note := _above(rows, minibatches):
        found.append(note)
    if GAP in rows.columns and any(
        math.isinf(high) for high in [*rows[GAP_HIGH], *(row.get(GAP_HIGH) or 0.0 for row in yardsticks)]
    ):
        found.append(NO_END)
    if GATES in rows.columns:
        found += [
            costs.reading(products or PRODUCTS),
            *costs.what_is_marked([*(row for _, row in rows.iterrows()), *yardsticks]),
        ]
    return found


def leading(model: str, found: Ranking[RankingSettings], count: int) -> Table:
    """The first formats of a ranking that goes on."""
    of = found.settings
    columns = [angle_column(found.by), *([GAP] if GAP in found.table.columns else [])]
    headers = [
        (RANK, "right"),
        ("format", "left"),
        (f"angle {found.by}", "right"),
        *((GAP, "right") for _ in columns[1:]),
    ]
    rows = [
        [str(row[RANK]), str(row[NAME]), angle(row, found.by, of.minibatches), *(gap(row) for _ in columns[1:])]
        for _, row in found.table.head(count).iterrows()
    ]
    return plain(f"{model}: {_standing(found)}", headers, rows)


def leading_line(model: str, found: Ranking[RankingSettings], count: int) -> str:
    """The same in a line."""
    of = found.settings
    rows = [f"{row[NAME]} {angle(row, found.by, of.minibatches)}" for _, row in found.table.head(count).iterrows()]
    return f"{model}: {', '.join(rows)} degrees of {found.by}; {_standing(found)}"


def _standing(found: Ranking[RankingSettings]) -> str:
    of = found.settings
    if not of.measured:
        return f"estimates of {counted(of.candidates, 'format')} from the noise of one pass, nothing measured yet"
    return f"{of.measured} of {counted(of.candidates, 'format')} measured so far, {counted(of.gradients, 'gradient')}"


def _promise(table: pd.DataFrame, by: str, regret: float) -> str:
    """How much better another format may be; nothing where that is all that the first has, or nothing is known."""
    if pd.isna(regret) or len(table) < 2:
        return ""
    name, angle = table[NAME].iloc[0], float(table[angle_column(by)].iloc[0])
    if regret <= 0:
        return f"no other is better than {name} (97.5% confidence for each)"
    if regret > MOST_REGRET * angle:
        return ""
    share = repeats_within(Effect(by))
    if regret <= share * angle:
        return f"no other is better than {name} by more than the {share:.1%} that an angle repeats itself within"
    return f"no other is better than {name} by more than {regret:.2g} degrees (97.5% confidence for each)"


def _weights(alone: Mapping[str, float]) -> str:
    """What is not in the angles of a ranking."""
    typed = "where the chip rounds them too, --effects E,A,AE,WAE with --formats"
    if not alone:
        return f"weights are not rounded here: {typed}"
    each = ", ".join(f"{name} {degrees:.3g}" for name, degrees in alone.items())
    return (
        f"weights are not rounded here; alone, on the first mini-batch, they turn the gradient by {each} degrees: "
        f"{typed}"
    )


def _above(rows: pd.DataFrame, minibatches: int) -> str:
    """A word on rows whose activations alone turn the gradient further than activations and errors do."""
    both = [angle_column(Effect.A), angle_column(Effect.AE)]
    if not set(both) <= set(rows.columns):
        return ""
    above = rows[rows[both[0]] > rows[both[1]]]
    if not len(above):
        return ""
    names = list(above[NAME].head(NAMED)) + ["..."] * (len(above) > NAMED)
    measured = above[[n_column(Effect.A), n_column(Effect.AE)]] >= minibatches
    why = (
        "on these mini-batches the noise of errors happens to cancel some of that of activations"
        if bool(measured.all(axis=None))
        else "one or both are estimates, each by itself"
    )
    return f"A above AE ({', '.join(names)}): {why}; rounding errors does not help"


def as_good(table: pd.DataFrame, by: str, within: float) -> str:
    """How many formats of a ranking by an effect with gaps count as good as float32."""
    count, divided = int((table[GAP] <= within).sum()), division(table, within, by)
    where = ""
    if divided is not None:
        where = f", up to an angle of {by} of {divided.below:.3g} degrees, the next has {divided.above:.3g}"
    return f"as good as float32 within {100 * within:.3g}%: {count} of {counted(len(table), 'format')}{where}"


def _last_as_good(rows: pd.DataFrame, within: float) -> list[int]:
    """The row that ends those as good as float32, where all of them stand above all others."""
    inside = (rows[GAP] <= within).to_numpy()
    count = int(inside.sum())
    return [count - 1] if 0 < count < len(rows) and inside[:count].all() else []


def first_formats(
    table: pd.DataFrame,
    top: int,
    title: str,
    minibatches: int,
    within: float,
    yardsticks: Sequence[Mapping[str, Any]] = (),
) -> Table:
    """The first `top` rows of a ranking, and below them those of the formats that it is held against."""
    effects = effects_in(table.columns)
    lengths = [PROJECTION] if PROJECTION in table.columns else []
    gates = costs.HEADERS if GATES in table.columns else ()
    gaps = [GAP] if GAP in table.columns else []
    headers = [
        *((RANK, "right"), ("format", "left"), (BITS, "right")),
        *((f"angle {effect}", "right") for effect in effects),
        *((column, "right") for column in lengths),
        *((column, "right") for column in gaps),
        *gates,
        (PROFILE, "left"),
    ]

    def cells_of(row: Any, rank: str) -> list[str]:
        return [
            *(rank, str(row[NAME]), or_dash(row[BITS])),
            *(angle(row, effect, minibatches) for effect in effects),
            *(or_dash(row[column], ".3g") for column in lengths),
            *(gap(row) for _ in gaps),
            *(costs.cells(row) if gates else ()),
            "" if pd.isna(row[PROFILE]) else str(row[PROFILE]),  # of a file that has no text there
        ]

    shown = table.head(top)
    first = [cells_of(row, str(row[RANK])) for _, row in shown.iterrows()]
    ruled = [*(_last_as_good(shown, within) if gaps else ()), *([len(first) - 1] if yardsticks else ())]
    return plain(title, headers, [*first, *(cells_of(row, "") for row in yardsticks)], ruled)


def across(found: Across, top: int, networks: int, again: str) -> list[Part]:
    """The first `top` formats of a ranking over several networks. networks: how many were to be ranked on; again:
    what becomes of measurements, and how it goes on where it ended early."""
    at = next(iter(found.rankings.values())).settings.points
    where = " at operands" if at is Points.OPERANDS else ""
    by = f"angles of {found.settings.effect}{where}"
    title = f"{', '.join(found.rankings)}: {counted(len(found.table), 'format')} by mean rank, {by}"
    parts: list[Part] = [_across(found.table, top, title), READING]
    if not found.complete:
        parts.append(f"ended early, with {len(found.rankings)} of {networks} models; measurements {again}")
    return [*parts, f"verdict: {verdict(found.table, {'complete': found.complete}, 0.0)}"]


def _across(table: pd.DataFrame, top: int, title: str) -> Part:
    models = networks_in(table.columns)
    headers = [
        *((RANK, "right"), ("format", "left"), (BITS, "right")),
        *(("mean rank", "right"), ("worst angle (deg)", "right"), ("on", "left")),
        *((f"rank, {model}", "right") for model in models),
    ]
    rows = [
        [
            *(str(row[RANK]), str(row[NAME]), or_dash(row[BITS])),
            *(f"{row[MEAN_RANK]:.4g}", angle(row, WORST), str(row[WORST_ON])),
            *(str(row[on_network(RANK, model)]) for model in models),
        ]
        for _, row in table.head(top).iterrows()
    ]
    return plain(title, headers, rows)


def comparison(found: Comparison, top: int, title: str) -> list[Part]:
    """The first `top` formats of the first ranking, as many whose places changed most, and how much the two agree."""
    headers = [("format", "left"), *((text, "right") for text in ("place", "then", "change", "angle (deg)", "then"))]

    def rows(part: pd.DataFrame) -> list[list[str]]:
        return [
            [
                *(str(row.name), str(row.place_a), str(row.place_b), f"{row.change:+d}"),
                *(f"{row.angle_a:.3f}", f"{row.angle_b:.3f}"),
            ]
            for row in part.itertuples(index=False)
        ]

    moved = found.table[found.table["change"] != 0]
    moved = moved.loc[moved["change"].abs().sort_values(ascending=False, kind="stable").index]
    parts: list[Part] = [
        plain(title, headers, rows(found.table.head(top))),
        plain("places that changed most", headers, rows(moved.head(top))),
        f"{found.agreement.formats} formats: {correlations(found.agreement)}",
        "in both, of the first k: " + ", ".join(f"{count} of {k}" for k, count in found.overlap.items()),
    ]
    if found.points[0] is not found.points[1]:
        first, second = ("at operands" if at is Points.OPERANDS else "of data flow" for at in found.points)
        parts.append(
            f"the first is {first}, the second {second}: two questions, whose angles differ on one network too"
        )
    if found.left_out:
        parts.append(f"left out, not the same format in both or without an angle: {', '.join(found.left_out)}")
    return parts
