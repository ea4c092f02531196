"""Lets pika carry numbers with a fraction in headers.

pika 1.4 reads one as a whole number (NaN, as an error that ends the connection) and cannot send it at all. A message
that is passed on keeps its headers as they were, so both are mended here, for the whole process, by importing this.
"""

from __future__ import annotations

import struct
from typing import Any

from pika import data

LAYOUTS = {b"f": ">f", b"d": ">d"}
LAST_MOMENT = 253_402_300_799  # seconds: the end of the year 9999, beyond which Python has no dates


class Moment(int):
    """A timestamp beyond that, such as one that its sender has put down in milliseconds: as it came."""


_decode, _encode = data.decode_value, data.encode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """The value at `offset` of a table, and where the next one begins."""
    kind = encoded[offset : offset + 1]
    if kind == b"T" and (at := struct.unpack_from(">Q", encoded, offset + 1)[0]) > LAST_MOMENT:
        return Moment(at), offset + 9  # pika's error would end the connection, over and over
    if (layout := LAYOUTS.get(kind)) is None:
        return _decode(encoded, offset)
    return struct.unpack_from(layout, encoded, offset + 1)[0], offset + 1 + struct.calcsize(layout)


def encode_value(pieces: list[bytes], value: Any) -> int:
    """Appends the value, and returns its size in bytes."""
    if isinstance(value, Moment):
        pieces.append(struct.pack(">cQ", b"T", value))
        return 9
    if not isinstance(value, float):
        return _encode(pieces, value)
    pieces.append(struct.pack(">cd", b"d", value))
    return 9


data.decode_value = decode_value
data.encode_value = encode_value
