"""The World English Bible: five million characters of English prose and verse.

Source: Debian's package sword-text-web 426.0-1 (zText module engWEB2015eb, https://ebible.org/web/). Public domain.
"""

import lzma
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from numeric_formats.files import write_atomically
from numeric_formats.folders import DATA_VARIABLE, data_folders

DEBIAN_FOLDER = Path("/usr/share/sword/modules/texts/ztext/engWEB2015eb")
BUNDLED = Path(__file__).parents[1] / "bundled" / "bible.txt.xz"
BUNDLED_TRAIN, TEST = 1 << 20, (1 << 17) + 1
FIRST, LAST = " ", "~"
SYMBOLS = ord(LAST) - ord(FIRST) + 1
"""Characters of the text: printable ASCII."""

_TYPEWRITTEN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "—": "-", "–": "-"})


def _testament(name: str) -> str:
    """What the module holds of one testament, with its markup: zlib blocks, found by offset and size."""
    folders = data_folders(DEBIAN_FOLDER)
    for folder in folders:
        index, blocks = folder / f"{name}.bzs", folder / f"{name}.bzz"
        if index.is_file() and blocks.is_file():
            data = blocks.read_bytes()
            try:
                places = struct.iter_unpack("<III", index.read_bytes())
                return b"".join(zlib.decompress(data[start : start + size]) for start, size, _ in places).decode()
            except (struct.error, zlib.error, UnicodeDecodeError) as error:
                raise ValueError(f"{blocks} is damaged, or not of a SWORD zText module: {error}") from error
    raise FileNotFoundError(
        f"the World English Bible's {name}.bzz and {name}.bzs are in none of {', '.join(map(str, folders))}; install "
        f"Debian's sword-text-web or set {DATA_VARIABLE} to the folder that holds them"
    )


def plain(marked: str) -> str:
    """OSIS markup as printable ASCII in one line: notes and titles are left out, what is not ASCII is replaced or left
    out."""
    text = re.sub(r"<(note|title)\b.*?</\1>", "", marked, flags=re.S)
    text = re.sub(r"</?w\b[^>]*>", "", text)  # stands inside sentences, close to punctuation
    text = re.sub(r"<[^>]*>", " ", text)
    return re.sub(f"[^{chr(ord(FIRST) + 1)}-{LAST}]+", " ", text.translate(_TYPEWRITTEN)).strip()


def read_full() -> str:
    """The whole text; its last TEST characters are for testing."""
    return plain(f"{_testament('ot')} {_testament('nt')}")


def read_bundled() -> str:
    """The last BUNDLED_TRAIN + TEST characters of the whole, from the file that comes with the package."""
    return lzma.decompress(BUNDLED.read_bytes()).decode("ascii")


def write_bundled() -> None:
    """Make the bundled file from the whole text."""
    part = read_full()[-(BUNDLED_TRAIN + TEST) :].encode("ascii")
    content = lzma.compress(part, preset=9 | lzma.PRESET_EXTREME)
    write_atomically(BUNDLED, content)


def to_symbols(text: str) -> Tensor:
    """Text as the numbers (N,) int64 of its characters, 0 to SYMBOLS - 1. Raises ValueError for others than printable
    ASCII."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - ord(FIRST)
    if codes.size and (codes.min() < 0 or codes.max() >= SYMBOLS):
        raise ValueError(f"the text has characters outside of {FIRST!r} to {LAST!r}")
    return torch.from_numpy(codes)
