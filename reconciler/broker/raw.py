"""Message properties as the bytes that came over the wire, so that a message can be passed on exactly as it is.

pika's own `BasicProperties` loses types on the way back (a float cannot even be sent again). Whoever only passes a
message on needs one or two fields of it; those are found here by walking over the bytes, laid out in AMQP 0-9-1 §4.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from pika import frame, spec

from reconciler.broker.amqp import Connection

# The fields of a message's properties in the order of their flags, from the highest bit on, and how each is laid out.
FIELDS = {
    "content_type": "short",
    "content_encoding": "short",
    "headers": "table",
    "delivery_mode": "octet",
    "priority": "octet",
    "correlation_id": "short",
    "reply_to": "short",
    "expiration": "short",
    "message_id": "short",
    "timestamp": "long",
    "type": "short",
    "user_id": "short",
    "app_id": "short",
    "cluster_id": "short",
}
BITS = {name: 15 - position for position, name in enumerate(FIELDS)}

# Bytes of a value in a table by its type; those that begin with their own length are not in it.
SIZES = {b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"U": 2, b"u": 2, b"I": 4, b"i": 4, b"f": 4}
SIZES |= {b"l": 8, b"L": 8, b"d": 8, b"T": 8, b"D": 5, b"V": 0}

HEADER = 2  # the type of a frame that carries properties


class RawProperties(spec.BasicProperties):
    """Properties that encode to the very bytes they came in."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def decode(self, encoded: bytes, offset: int = 0) -> RawProperties:
        self.data = bytes(encoded[offset:])
        return self

    def encode(self) -> list[bytes]:
        return [self.data]


class RawConnection(Connection):
    """A connection whose deliveries carry `RawProperties`."""

    def _read_frame(self) -> tuple[int, Any]:
        data = self._frame_buffer
        if len(data) < 7 or data[0] != HEADER:
            return super()._read_frame()
        _, channel, size = struct.unpack_from(">BHL", data)
        end = 7 + size + 1
        if len(data) < end:
            return 0, None
        body_size = struct.unpack_from(">Q", data, 11)[0]
        return end, frame.Header(channel, body_size, RawProperties(bytes(data[19 : end - 1])))


def split(data: bytes) -> dict[str, bytes]:
    """Each field that is set, as its bytes. Raises ValueError if they are none."""
    try:
        (flags,) = struct.unpack_from(">H", data)
        if flags & 1:
            raise ValueError("properties with more than one word of flags")
        found, at = {}, 2
        for name, layout in FIELDS.items():
            if flags >> BITS[name] & 1:
                end = at + length_of(layout, data, at)
                found[name], at = data[at:end], end
    except (struct.error, IndexError):
        raise ValueError("properties that end in the middle") from None
    return found


def join(fields: dict[str, bytes]) -> bytes:
    flags = sum(1 << BITS[name] for name in fields)
    return struct.pack(">H", flags) + b"".join(fields[name] for name in FIELDS if name in fields)


def length_of(layout: str, data: bytes, at: int) -> int:
    if layout == "short":
        return 1 + data[at]
    if layout == "table":
        return 4 + int(struct.unpack_from(">L", data, at)[0])
    return 1 if layout == "octet" else 8


def entries(table: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Each entry of an AMQP table (its length in front) as its name, the type of its value, and the value's bytes."""
    at = 4
    while at < len(table):
        name = table[at + 1 : at + 1 + table[at]]
        at += 1 + len(name)
        kind = table[at : at + 1]
        end = at + 1 + (SIZES[kind] if kind in SIZES else 4 + int(struct.unpack_from(">L", table, at + 1)[0]))
        yield name, kind, table[at + 1 : end]
        at = end


def table_of(found: list[tuple[bytes, bytes, bytes]]) -> bytes:
    inside = b"".join(bytes([len(name)]) + name + kind + value for name, kind, value in found)
    return struct.pack(">L", len(inside)) + inside


def short(text: str | bytes) -> bytes:
    """A short text as it stands in properties; raises ValueError over 255 bytes."""
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def text_of(field: bytes | None) -> str:
    """A short field in words, empty if it is not set."""
    return field[1:].decode(errors="replace") if field else ""
