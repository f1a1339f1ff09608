"""What an exception says, in one line; numbers of things."""


def one_line(error: BaseException) -> str:
    """All of its message, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of its message, or its kind where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters, and others without a picture, as Python writes them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def counted(number: int, thing: str) -> str:
    """So many of a thing: 1 gradient, 2 mini-batches.

    >>> counted(1, "mini-batch"), counted(0, "format")
    ('1 mini-batch', '0 formats')
    """
    return f"{number} {thing}" + ("" if number == 1 else "es" if thing.endswith("ch") else "s")


def lasting(seconds: float) -> str:
    """How long something takes, in the unit that suits it.

    >>> lasting(2.4), lasting(95), lasting(1500), lasting(24500)
    ('2 s', '95 s', '25.0 minutes', '6.8 hours')
    """
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
