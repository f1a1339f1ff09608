"""What a training run writes down: a row per step, rows per layer, a row per epoch."""

from __future__ import annotations

import hashlib
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numeric_formats.files import write_atomically
from numeric_formats.messages import one_line
from training.delayed import RoundingCounts
from workloads.digests import digest

LAYERS = "layers"
"""Folder of Parquet files with the rows per layer; pandas.read_parquet reads the folder as one table."""


STEPS, EPOCHS = "steps.parquet", "epochs.csv"


SATURATED, OFTEN = 0.01, 3
"""From what share of saturated values on, in how many steps, a run is warned of."""


def _share_beyond(seen: list[RoundingCounts], kind: str) -> float:
    """The share of all elements of a kind that lay beyond the largest value of their scale."""
    own = [entry for entry in seen if entry.kind == kind and entry.overflows is not None]
    return sum(entry.overflows or 0 for entry in own) / max(1, sum(entry.elements for entry in own))


def saturation(steps: pd.DataFrame) -> str | None:
    """What is to be said of a run in which scales lagged behind their tensors; None where they did not.

    Args:
        steps: `Log.step_table`; runs from before there was the column say nothing.
    """
    shares = steps.get("saturated", pd.Series(dtype=float)).fillna(0.0)
    often = int((shares > SATURATED).sum())
    if often < OFTEN:
        return None
    worst = int(shares.to_numpy().argmax())
    return (
        f"in {often} of {len(steps)} steps more than {SATURATED:.0%} of the activations or errors lay beyond the "
        f"largest value of their scale ({shares.iloc[worst]:.0%} in step {steps['step'].iloc[worst]}): a delayed scale "
        "follows by one binade a step, and what is cut off meanwhile no angle shows; let the rate rise slowly "
        "(--warmup), or take the scale of each tensor (--scheme current)"
    )


class Log:
    """The rows of a run, kept in memory, and in a folder where there is one.

    Rows per layer hold a step and the fields of `RoundingCounts`; in a folder they are read back only when
    `layer_table` is asked for.

    Attributes:
        folder: Where they are written; None keeps them in memory alone.
        steps: Of each step its number (from 1), epoch, loss, rate, angle and layer_angle (of all layers as one vector,
            and the mean of the layers' own, in degrees; None where not sampled), seconds, flips and their share of all
            weights whose codes were looked at (NaN where none was: a method's are where the angles are sampled),
            flips_by_scale (see `RoundingCounts`), oscillation (the share of quantized weights that flipped back, NaN
            where flips are not looked for in every step; see `training.oscillation`), overflows, underflows, saturated
            (the share of all activations, or of all errors, that lay beyond the largest value of their scale, the
            larger of the two).
        epochs: Of each epoch its number (from 1), loss (mean) and metric.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self._layers: list[tuple[Any, ...]] = []
        self._tables: list[pd.DataFrame] = []
        self._written = hashlib.sha256()

    def add(self, row: dict[str, Any], seen: list[RoundingCounts]) -> None:
        """The rows of one step."""
        quantized = [entry for entry in seen if entry.flips is not None]
        row["flips"] = sum(entry.flips or 0 for entry in quantized)
        row["flip_rate"] = row["flips"] / max(1, sum(entry.elements for entry in quantized)) if quantized else math.nan
        row["flips_by_scale"] = sum(entry.flips_by_scale or 0 for entry in quantized)
        followed = [entry for entry in seen if entry.oscillations is not None]
        turned = sum(entry.oscillations or 0 for entry in followed)
        row["oscillation"] = turned / sum(entry.elements for entry in followed) if followed else math.nan
        row["overflows"] = sum(entry.overflows or 0 for entry in seen)
        row["underflows"] = sum(entry.underflows for entry in seen)
        row["saturated"] = max(_share_beyond(seen, kind) for kind in ("A", "E"))
        self.steps.append(row)
        self._layers += [(row["step"], *entry) for entry in seen]

    def save(self, step: int) -> None:
        """Write all rows up to and with this step; the checkpoint of the step is written after them."""
        if self._layers:
            table, self._layers = self._table(self._layers), []
            if self.folder is None:
                # A table is a tenth of the size of its rows.
                self._tables.append(table)
            else:
                buffer = BytesIO()
                table.to_parquet(buffer, index=False)
                self._written.update(buffer.getvalue())
                write_atomically(self.folder / LAYERS / f"{step:08}.parquet", buffer.getvalue())
        if self.folder is not None:
            steps, epochs = self.step_table(), self.epoch_table().to_csv(index=False)
            write_atomically(self.folder / STEPS, lambda file: steps.to_parquet(file, index=False))
            write_atomically(self.folder / EPOCHS, epochs)

    def digests(self) -> dict[str, str]:
        """SHA-256 of the rows of all steps but for times, and of the files of the rows per layer."""
        rows = self.step_table().drop(columns="seconds")
        return {"steps": digest(rows.to_numpy(np.float64)), "layers": self._written.hexdigest()}

    def restore(self, step: int, epochs: list[dict[str, Any]], digests: Any) -> None:
        """Take up the rows of a folder where its checkpoint of this step stands, and forget later ones. digests: as
        they were when it was written.

        Raises ValueError, and removes nothing, where rows are missing or damaged.
        """
        assert self.folder is not None
        path = self.folder / STEPS
        try:
            table = pd.read_parquet(path)
            self.steps = table[table["step"] <= step].to_dict("records")  # type: ignore[assignment]
        except Exception as error:  # pyarrow has many kinds for a damaged file
            raise ValueError(
                f"{path} cannot be read ({one_line(error)}); it belongs to the checkpoint: start with --force"
            ) from None
        if len(self.steps) != step:
            raise ValueError(
                f"{path} holds {len(self.steps)} of the {step} steps before the checkpoint; start with --force"
            )
        parts = self._parts()
        for part in parts:
            if int(part.stem) <= step:
                self._written.update(part.read_bytes())
        for name, found in self.digests().items():
            if found != digests[name]:
                place = path if name == "steps" else self.folder / LAYERS
                raise ValueError(f"{place} is damaged: it is not what was written; start with --force")
        for part in parts:
            if int(part.stem) > step:
                part.unlink()
        self.epochs = epochs

    def clear(self) -> None:
        """Remove the rows of an earlier run from the folder."""
        if self.folder is not None:
            for path in (*self._parts(), self.folder / STEPS, self.folder / EPOCHS):
                path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        found = (self.folder / LAYERS).glob("*.parquet") if self.folder is not None else ()
        return sorted((path for path in found if path.stem.isdigit()), key=lambda path: int(path.stem))

    @staticmethod
    def _table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
        table = pd.DataFrame(rows, columns=["step", *RoundingCounts._fields])
        whole = dict.fromkeys(("top_low", "top_high", "overflows", "flips", "flips_by_scale", "oscillations"), "Int64")
        return table.astype(whole | {"angle": "float64"} | dict.fromkeys(("kind", "place"), "category"))

    def step_table(self) -> pd.DataFrame:
        """A row per step."""
        table = pd.DataFrame(self.steps)
        return table.astype({"angle": "float64", "layer_angle": "float64"}) if len(table) else table

    def epoch_table(self) -> pd.DataFrame:
        """A row per finished epoch."""
        return pd.DataFrame(self.epochs, columns=["epoch", "loss", "metric"]).astype({"metric": "float64"})

    def layer_table(self) -> pd.DataFrame:
        """A row per step and rounded tensor."""
        parts = self._tables + [pd.read_parquet(path) for path in self._parts()] + [self._table(self._layers)]
        whole = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
        return whole.astype(dict.fromkeys(("kind", "place"), "category"))
