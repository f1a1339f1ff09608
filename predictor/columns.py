"""Names of the columns of result tables: those that `measure` and `attribute` give, and those of rankings."""

from __future__ import annotations

from collections.abc import Iterable

FORMAT, EFFECT, SCOPE, KIND, LAYER, MODULE = "format", "effect", "scope", "kind", "layer", "module"
ALL, FIRST = "all", "first"
"""Scopes: the whole network's gradient, and that of the first parameter in the order of execution; others are names of
parameters. What a measured angle is of; module: what a layer is."""
ANGLE, LOW, HIGH, N, SOURCE = "angle", "low", "high", "n", "source"
"""An angle in degrees, its 95% interval, its mini-batches, and whether it was measured or predicted."""
MEASURED, PREDICTED = "measured", "predicted"
"""What a column of sources holds, beside nothing where there is no angle."""
FAILURES, SHARE, SECONDS = "failures", "share", "seconds"
PROJECTION, LENGTH_RATIO, LOSS_RISE = "projection", "length_ratio", "loss"
BY_PROJECTION, BY_ANGLE = "rank_by_projection", "rank_by_angle"
"""Means over mini-batches: <g_q, g> / |g|^2, |g_q| / |g|, and the loss less that of full precision."""
BIAS, BIAS_LOW, BIAS_HIGH = "bias", "bias_low", "bias_high"
"""What does not average out over mini-batches (`predictor.statistics.bias`)."""
GAP, GAP_LOW, GAP_HIGH = "gap", "gap_low", "gap_high"
"""How much worse a format trains: its final loss over that of float32, less 1 (`predictor.risk`)."""

RECIPE, PRODUCT, PART, DRAWS, KEPT = "recipe", "product", "part", "draws", "kept"
"""What a row of recipes is of: a recipe, its product, whether it holds everywhere; draws of random numbers; and the
share of multiply-accumulates that stay in bfloat16 instead."""
ANGLE_OF_MEAN, LOW_OF_MEAN, HIGH_OF_MEAN = "angle_of_mean", "low_of_mean", "high_of_mean"
LOW_OF_PROJECTION, HIGH_OF_PROJECTION, TO_TELL = "projection_low", "projection_high", "to_tell"
"""The angle of the mean over many draws, with its 95% interval."""

RANK, NAME, BITS, FAMILY, GRANULARITY, PROFILE, BINADES = (
    *("rank", "name", "bits", "family", "granularity", "profile", "binades"),
)
DESCRIBED = (NAME, BITS, FAMILY, GRANULARITY, PROFILE, BINADES)
"""What describes a format, in the order of the columns."""
GATES, ENERGY, BYTES, NOT_COUNTED = "gates", "femtojoules", "bytes_per_value", "not_counted"
"""What a multiply-accumulate costs (`formats.hardware.totals`); what is not counted is text, "" where all is."""
COSTS = (GATES, ENERGY, BYTES, NOT_COUNTED)
FRONT, ROLE, ELEMENTS, SCORE = "front", "role", "elements", "score"

NETWORK_NAME, SEED = "network", "seed"
"""What was trained."""
MEAN_RANK, WORST_ON = "mean_rank", "worst_on"
"""Of a ranking over several networks: the mean of a format's ranks, and the network with its largest angle."""
WORST = "worst"
"""Stands where an effect does, in the columns of that angle; and the column of the tensor that a format serves
least."""
NSR_MEAN, NSR_WORST = "nsr_mean", "nsr_worst"
"""Noise-to-signal ratios over tensors."""

NETWORK = "(network)"
"""The layer, in tables, of what a network does outside its modules."""
ALONE, WITHOUT = "alone", "without"
"""Stand where an effect does, in the columns of an attribution."""


def angle_column(effect: str) -> str:
    """The angle of an effect, such as angle_AE."""
    return f"{ANGLE}_{effect}"


def low_column(effect: str) -> str:
    """The lower end of its interval."""
    return f"{LOW}_{effect}"


def high_column(effect: str) -> str:
    """The upper end of its interval."""
    return f"{HIGH}_{effect}"


def n_column(effect: str) -> str:
    """Its mini-batches."""
    return f"{N}_{effect}"


def source_column(effect: str) -> str:
    """Whether it was measured or predicted."""
    return f"{SOURCE}_{effect}"


def score_column(effect: str) -> str:
    """The weighted sum of noise-to-signal ratios for an effect."""
    return f"{SCORE}_{effect}"


def difference_columns(effect: str) -> tuple[str, str, str]:
    """An angle less the reference's, and the two ends of its interval."""
    return f"difference_{effect}", f"difference_low_{effect}", f"difference_high_{effect}"


def effects_in(columns: Iterable[object]) -> list[str]:
    """The effects that a table has angles of, in the order of its columns."""
    begin = angle_column("")
    return [str(column).removeprefix(begin) for column in columns if str(column).startswith(begin)]


def on_network(column: str, network: str) -> str:
    """A column of one network's ranking, in the table over several."""
    return f"{column}@{network}"


def networks_in(columns: Iterable[object]) -> list[str]:
    """The networks that a table over several ranks formats on, in the order of its columns."""
    begin = on_network(RANK, "")
    return [str(column).removeprefix(begin) for column in columns if str(column).startswith(begin)]
