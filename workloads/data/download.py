"""Finding a public data file: in the user's folders, in the cache, else at its public address."""

import hashlib
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from numeric_formats.files import write_atomically
from numeric_formats.folders import DATA_VARIABLE, cache_folder, data_folders


def find(
    what: str, name: str, address: str, *, folders: Sequence[Path] = (), remedy: str = "", md5: str | None = None
) -> Path:
    """The first place that holds the file `name` of the data set `what`: $FORMATS_DATA, `folders`, the user's cache,
    which else gets it from `address`.

    md5: of the public file, which a download must have. Raises FileNotFoundError where it is nowhere and cannot be
    downloaded; `remedy` begins what to do.
    """
    cache = cache_folder() / what.lower()
    places = [*data_folders(*folders), cache]
    for folder in places:
        if (folder / name).is_file():
            return folder / name
    try:
        with urllib.request.urlopen(f"{address}/{name}", timeout=60) as response:
            content = response.read()
        if md5 is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise OSError("what came is not the published file")
        write_atomically(cache / name, content)
    except OSError as error:
        raise FileNotFoundError(
            f"{what}'s {name} is in none of {', '.join(map(str, places))} and could not be downloaded "
            f"({error}); {remedy}set {DATA_VARIABLE} to the folder that holds it"
        ) from error
    return cache / name
