"""The format of a task's file: frames, each ``payload | record | footer``.

A file starts with the pickle of the deferred call, which is the payload of the first frame, the
*envelope*; each ended attempt appends one more frame.  The record is JSON, the footer says how long
both are and carries their checksums, so a file is read from its end, and garbage between frames
(a writer that died half way) is passed over.  Loaded in every child.
"""

from __future__ import annotations

import json
import os
import struct
import zlib

from runforrest.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any
    Record = dict[str, Any]

MAGIC = b"rfFrame1"
#: magic, record length, payload length, crc of the record, of the payload, of this footer
FOOTER = struct.Struct("<8sIQIII")
MAX_RECORD = 1 << 24
TAIL = 1 << 16                     # bytes read at once from the end of a file


def _encoder() -> Callable[[Any], str]:
    """JSON's encoder without the layers of Python above it: in a fresh fork each of them costs page faults."""
    plain = json.JSONEncoder(separators=(",", ":"), default=str, check_circular=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    encode = make(None, str, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(encode(value, 0))


#: a record, or a part of one, as JSON text in ASCII, and back
to_json = _encoder()
from_json = json.JSONDecoder().decode


class Frame:
    """One frame that was found: its record, also as the ``text`` in the file, and where its payload lies there."""

    __slots__ = ("end", "payload_crc", "payload_length", "record", "start", "text")

    def __init__(self, record: Record, text: bytes, start: int, payload_length: int, payload_crc: int,
                 end: int) -> None:
        self.record, self.text, self.start, self.end = record, text, start, end
        self.payload_length, self.payload_crc = payload_length, payload_crc

    def payload(self, fd: int) -> bytes | None:
        """The payload out of the file, or None if it is damaged."""
        data = read_range(fd, self.start, self.payload_length)
        return data if len(data) == self.payload_length and zlib.crc32(data) == self.payload_crc else None


def encode(record: Record | bytes, payload: bytes = b"") -> list[bytes]:
    """A frame as chunks to write one after the other; a large payload is not copied.

    record  the record, or its JSON
    Raises InvalidArgument if nobody could read it, as it is too long.
    """
    head = record if isinstance(record, bytes) else to_json(record).encode()
    if len(head) > MAX_RECORD:
        raise InvalidArgument(f"what is to be kept of a task besides its call takes {len(head):,} bytes; at most "
                              f"{MAX_RECORD:,} fit, so a command that long belongs into a file")
    foot = FOOTER.pack(MAGIC, len(head), len(payload), zlib.crc32(head), zlib.crc32(payload), 0)[:-4]
    small = head + foot + struct.pack("<I", zlib.crc32(foot))
    if len(payload) < TAIL:
        return [payload + small]
    return [payload, small]


def read_range(fd: int, start: int, length: int) -> bytes:
    """Up to ``length`` bytes from ``start``; fewer only at the end of the file."""
    parts = []
    while length > 0:
        part = os.pread(fd, min(length, 1 << 26), start)
        if not part:
            break
        parts.append(part)
        start += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def backwards(fd: int) -> Iterator[Frame]:
    """Every intact frame of the file, the last one first."""
    window = _Window(fd)
    end = window.size
    while end >= FOOTER.size:
        frame = _frame_before(window, end)
        if frame is not None:
            yield frame
            end = frame.start
        else:                              # garbage: the next footer that could be one
            end = window.find_footer(end - 1)


class _Window:
    """The file seen from its end: what was read last is kept."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.start = max(0, self.size - TAIL)
        self.data = read_range(fd, self.start, self.size - self.start)

    def get(self, start: int, end: int) -> bytes:
        if start < self.start or end > self.start + len(self.data):
            first = max(0, min(start, end - TAIL))
            self.start, self.data = first, read_range(self.fd, first, end - first)
        return self.data[start - self.start:end - self.start]

    def find_footer(self, end: int) -> int:
        """Where the last footer that ends at or before ``end`` would end; 0 if there is none."""
        stop = end - FOOTER.size + len(MAGIC)           # its magic ends here at the latest
        while stop >= len(MAGIC):
            start = max(0, stop - TAIL)
            at = self.get(start, stop).rfind(MAGIC)
            if at >= 0:
                return start + at + FOOTER.size
            stop = start + len(MAGIC) - 1 if start else 0
        return 0


def _frame_before(window: _Window, end: int) -> Frame | None:
    foot = window.get(end - FOOTER.size, end)
    if len(foot) != FOOTER.size or foot[:8] != MAGIC:
        return None
    _, head, length, head_crc, payload_crc, own = FOOTER.unpack(foot)
    start = end - FOOTER.size - head - length
    if zlib.crc32(foot[:-4]) != own or start < 0 or head > MAX_RECORD:
        return None
    text = window.get(end - FOOTER.size - head, end - FOOTER.size)
    if zlib.crc32(text) != head_crc:
        return None
    try:
        record = from_json(text.decode())
    except (ValueError, RecursionError):
        return None
    return Frame(record, text, start, length, payload_crc, end) if isinstance(record, dict) else None
