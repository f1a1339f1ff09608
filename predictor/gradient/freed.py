"""Memory that was freed, given back to the system."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Let the C library give back what it keeps of freed memory, where it can be asked to (glibc).

    It keeps pieces below 32 MiB, such as most activations, in a heap that is full of holes after a pass; another pass
    does not fit into these, so that a process would take twice as much as it needs.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
