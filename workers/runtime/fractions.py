"""Lets pika carry numbers with a fraction in headers.

pika 1.4 reads one as a whole number (NaN, as an error that ends the connection) and cannot send it at all. A message
that is passed on keeps its headers as they were, so both are mended here, for the whole process, by importing this.
"""

from __future__ import annotations

import struct
from typing import Any

from pika import data

LAYOUTS = {b"f": ">f", b"d": ">d"}

_decode, _encode = data.decode_value, data.encode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """The value at `offset` of a table, and where the next one begins."""
    if (layout := LAYOUTS.get(encoded[offset : offset + 1])) is None:
        return _decode(encoded, offset)
    return struct.unpack_from(layout, encoded, offset + 1)[0], offset + 1 + struct.calcsize(layout)


def encode_value(pieces: list[bytes], value: Any) -> int:
    """Appends the value, and returns its size in bytes."""
    if not isinstance(value, float):
        return _encode(pieces, value)
    pieces.append(struct.pack(">cd", b"d", value))
    return 9


data.decode_value = decode_value
data.encode_value = encode_value
