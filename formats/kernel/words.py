"""The argument words of compiled tasks: one list of names makes what callers pack and what compiled code reads."""

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic, models, register_model

from formats.kernel.memory import address_of, array_at

NUMBER, UNSIGNED = types.int64, types.uint64
BITS = {4: types.int32[::1], 8: types.int64[::1]}
"""Floating-point numbers as bits, of whatever size they are."""
FLOATS = {4: types.float32[::1], 8: types.float64[::1]}
"""The same as numbers."""
CODES = {1: types.uint8[::1], 2: types.uint16[::1]}
"""Codes, of whatever size they are."""

Part = str | types.Type | Mapping[int, types.Type]


class WordsType(types.Type):  # type: ignore[misc]  # numba has no types for mypy
    """What compiled code sees: a pointer to words whose attributes are numbers and arrays."""

    def __init__(self, fields: tuple[tuple[str, types.Type], ...]) -> None:
        self.fields = fields
        super().__init__(f"words {zlib.crc32(repr(fields).encode()):08x}")

    @property
    def key(self) -> tuple[tuple[str, types.Type], ...]:
        """What makes two types the same."""
        return self.fields


@register_model(WordsType)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: WordsType) -> None:
        super().__init__(manager, kind, ir.IntType(64).as_pointer())


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]
    key = WordsType

    def generic_resolve(self, kind: WordsType, name: str) -> types.Type | None:
        return dict(kind.fields).get(name)


@lower_getattr_generic(WordsType)
def _read(context: Any, builder: Any, kind: WordsType, pointer: Any, name: str) -> Any:
    """The word of this name: a number, or an array at the address that it holds."""
    names = [field for field, _ in kind.fields]
    word = builder.load(builder.gep(pointer, [context.get_constant(types.intp, names.index(name))]))
    item = dict(kind.fields)[name]
    return array_at(context, builder, item, word) if isinstance(item, types.Array) else word


class Words:
    """64-bit words, in the order in which they are named.

    Each part is one of

    - `NUMBER`, or `UNSIGNED` for all of 64 bits: a whole number, read as `w.name`;
    - an array type of numba's, such as `int64[::1]`: an array, read as `w.name`, one-dimensional in memory order and
      without an end;
    - `BITS`, `FLOATS` or `CODES`: an array of the size of number for which the task is compiled;
    - a string of names: as many numbers, read by those names and packed as one sequence.

    `pack(name=..., ...)` gives the bytes that a task is run with; its arrays have to live until it has run.

    >>> import numpy as np
    >>> words = Words(x=BITS, x_strides="x_batch x_row", top=NUMBER)
    >>> len(words.pack(x=np.zeros(3), x_strides=(3, 1), top=0)) // 8
    4

    Raises:
        ValueError: A name stands twice.
        TypeError: `pack` misses a part, or was given one that it does not have.
        struct.error: `pack` was given too few or too many numbers for a string of names.
    """

    def __init__(self, **parts: Part) -> None:
        fields: list[tuple[str, Part]] = []
        for name, part in parts.items():
            fields += [(each, NUMBER) for each in part.split()] if isinstance(part, str) else [(name, part)]
        names = [name for name, _ in fields]
        if len(set(names)) < len(names):
            raise ValueError(f"words {', '.join(names)}: each name may stand once")
        self.fields = tuple(fields)
        self.pack = _packer(parts, "".join("Q" if part is UNSIGNED else "q" for _, part in fields))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of number, in bytes, for which tasks of these words are compiled; none where all are fixed."""
        return next((tuple(part) for _, part in self.fields if isinstance(part, Mapping)), ())

    def type_for(self, size: int | None = None) -> WordsType:
        """The type for compiled code, for numbers of so many bytes."""
        return WordsType(tuple((name, part[size] if isinstance(part, Mapping) else part) for name, part in self.fields))


def _packer(parts: Mapping[str, Part], layout: str) -> Callable[..., bytes]:
    """The function that packs; written out, since it runs in every call."""
    values = [
        f"*{name}" if isinstance(part, str) else name if part in (NUMBER, UNSIGNED) else f"address_of({name})"
        for name, part in parts.items()
    ]
    scope = {"packed": struct.Struct(layout).pack, "address_of": address_of}
    exec(f"def pack(*, {', '.join(parts)}):\n    return packed({', '.join(values)})", scope)
    pack: Callable[..., bytes] = scope["pack"]
    return pack
