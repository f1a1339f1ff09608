"""What measures, where measurements are kept, and the progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from commands.progress import progress_shown


@contextmanager
def session(workers: int | None, cluster: str | None, store: bool, device: str) -> Iterator[dict[str, Any]]:
    """What measures, where measurements are kept, and the progress bar: arguments that ranking and searching share."""
    from predictor.measuring.session import executor_of
    from predictor.measuring.store import Store

    with ExitStack() as stack:
        executor = stack.enter_context(executor_of(workers, cluster, device))
        kept = stack.enter_context(Store.open()) if store else None
        yield {"executor": executor, "store": kept, "progress": stack.enter_context(progress_shown())}
