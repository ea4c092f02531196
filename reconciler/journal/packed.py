"""A packed file of a log, read from anywhere in it: only the members that are wanted are unpacked."""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_right
from collections import OrderedDict
from typing import NamedTuple

_HEADER = struct.Struct("<4BIBBHBBHQII")  # as pack.py writes it
_START = (0x1F, 0x8B, 8, 4)
_TAG = (ord("Q"), ord("R"))
_KEPT = 4  # members


class Damaged(OSError):
    """This is not a file that we packed, or not all of it."""


class _Member(NamedTuple):
    offset: int
    length: int
    at: int  # in the packed file
    packed: int


class Packed:
    """`begin` and `end` are the first offset that is there, and the one after the last."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members = _members(fd)
        self._offsets = [member.offset for member in self._members]
        self._unpacked: OrderedDict[int, bytes] = OrderedDict()
        self.begin = self._offsets[0]
        self.end = self._members[-1].offset + self._members[-1].length

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        pieces = []
        while size > 0 and self.begin <= offset < self.end:
            index = bisect_right(self._offsets, offset) - 1
            data = self._member(index)
            at = offset - self._offsets[index]
            piece = data[at : at + size]
            if not piece:
                break
            pieces.append(piece)
            size, offset = size - len(piece), offset + len(piece)
        return b"".join(pieces)

    def _member(self, index: int) -> bytes:
        if index not in self._unpacked:
            member = self._members[index]
            raw = os.pread(self._fd, member.packed, member.at)
            self._unpacked[index] = _unpack(raw, member.length)
            while len(self._unpacked) > _KEPT:
                self._unpacked.popitem(last=False)
        return self._unpacked[index]


def _unpack(raw: bytes, length: int) -> bytes:
    """What cannot be unpacked is a line that says so, as long as it was: the rest keeps its offsets."""
    try:
        data = zlib.decompress(raw, zlib.MAX_WBITS | 16)
    except zlib.error:
        data = b""
    if len(data) == length:
        return data
    return f"({length:,} bytes of this log are damaged)".encode().ljust(length - 1)[: length - 1] + b"\n"


def _members(fd: int) -> list[_Member]:
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        raw = os.pread(fd, _HEADER.size, at)
        if len(raw) < _HEADER.size:
            raise Damaged("a packed log is cut short")
        fields = _HEADER.unpack(raw)
        offset, length, packed = fields[-3:]
        if fields[:4] != _START or fields[8:10] != _TAG or packed <= _HEADER.size or at + packed > size:
            raise Damaged("a packed log is not as we pack it")
        found.append(_Member(offset, length, at, packed))
        at += packed
    if not found:
        raise Damaged("a packed log is empty")
    return found
