"""Exit codes, and the one line that an error is."""

INTERRUPTED = 130
BAD_INPUT = 2
