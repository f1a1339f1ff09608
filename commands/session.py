"""What all commands that measure share: what measures, where measurements are kept, who hears of progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypedDict

from commands.progress import Display, progress_shown

if TYPE_CHECKING:
    from predictor.measuring.executors import Executor
    from predictor.measuring.store import Store


class Session(TypedDict):
    """Arguments of the functions that measure."""

    executor: Executor
    store: Store | None
    progress: Display


@contextmanager
def measuring_session(workers: int | None, cluster: str | None, store: bool, device: str) -> Iterator[Session]:
    """From the options --workers, --cluster, --store and --device, of which two may not go together."""
    from predictor.measuring.session import executor_of
    from predictor.measuring.store import Store

    with ExitStack() as stack:
        executor = stack.enter_context(executor_of(workers, cluster, device))
        kept = stack.enter_context(Store.open()) if store else None
        yield {"executor": executor, "store": kept, "progress": stack.enter_context(progress_shown())}


def kept(session: Session, again: str = "") -> str:
    """What becomes of the measurements of a session, in words. again: what is of use where they are kept."""
    if session["store"] is None or not session["store"].keeps:
        return "are not kept"
    return f"are kept; {again}" if again else "are kept"
