"""The ground floor: what every package of the distribution may use, and nothing of formats."""

from numeric_formats.guard import require

__all__ = ["require"]
