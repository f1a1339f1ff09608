"""The ground floor: what every package of the distribution may use, and nothing of formats."""

from numeric_formats.guard import require, require_linux

# Before anything else is imported, so that another system gets this one line and not the first error on the way.
require_linux()

from numeric_formats.lazy_names import later  # noqa: E402
from numeric_formats.version import VERSION as __version__  # noqa: E402

__all__ = ["__version__", "later", "require"]
