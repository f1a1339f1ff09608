"""What is refused before torch, pandas and a network are loaded, which takes many times as long."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from predictor.scheme import Scheme


def check_results(*paths: Path) -> None:
    """FileNotFoundError for a result, or a folder, that is not there."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no result file {path}")


def check_measured(
    models: Iterable[str],
    formats: Iterable[str | None],
    effects: str | None = None,
    scheme: Scheme | str | None = None,
    points: str = "dataflow",
) -> None:
    """ValueError for models' files that are not there, for names that are no format's (all of them), and for effects
    and schemes that there are not, at these points. Formats in a user's own files are looked at later, since those
    are run."""
    from commands.options import split
    from formats.lookup import FULL_PRECISION
    from formats.names import EXAMPLES
    from formats.pairs import candidate
    from predictor.effects import effects_at
    from predictor.scheme import rules_at

    for model in models:
        file = Path(model.rpartition(":")[0])
        if file.suffix == ".py" and not file.is_file():
            raise ValueError(f"there is no file {file}")
    refused = []
    for name in formats:
        if name is not None and name.lower() != FULL_PRECISION and not any(end in name for end in (".py", ".toml")):
            try:
                candidate(name)
            except ValueError as error:
                refused.append(error)
    if len(refused) > 1:
        raise ValueError("; ".join(str(error).removesuffix(EXAMPLES).strip(" .") for error in refused))
    if refused:
        raise refused[0]
    at, _ = rules_at(points, scheme)
    if effects:
        effects_at(at, split(effects), ())


def check_products(products: int | None, cost: bool) -> None:
    """ValueError for products of a sum where no cost is asked for."""
    if products is not None and not cost:
        raise ValueError(f"--products {products} says how costs are counted; add --cost")
