"""Frames: what is written is found again, whatever lies between and around."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runforrest.folder import frames
from runforrest.folder.frames import FOOTER, MAGIC, TAIL, backwards, encode, read_range

Record = dict[str, object]

json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                           max_leaves=8)
records = st.dictionaries(st.text(), json_values, max_size=4)
payloads = st.binary(max_size=200) | st.sampled_from([MAGIC, MAGIC * 5, b"", b"rfFrame", MAGIC + bytes(24)])
garbage = st.binary(max_size=100) | st.sampled_from([MAGIC, MAGIC + bytes(100), bytes(3), bytes(40) + MAGIC, MAGIC[:5]])


@contextmanager
def file_of(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def found_in(data: bytes) -> list[tuple[Record, bytes | None]]:
    """(record, payload) of all frames, the first one first."""
    with file_of(data) as fd:
        return [(f.record, f.payload(fd)) for f in backwards(fd)][::-1]


def frame(record: Record, payload: bytes = b"") -> bytes:
    return b"".join(encode(record, payload))


@given(st.lists(st.tuples(records, payloads), max_size=5))
def test_round_trip(written: list[tuple[Record, bytes]]) -> None:
    data = b"".join(frame(record, payload) for record, payload in written)
    assert found_in(data) == written


@given(st.lists(st.tuples(records, payloads, garbage), max_size=5), garbage)
def test_garbage_between_is_passed_over(written: list[tuple[Record, bytes, bytes]], end: bytes) -> None:
    data = b"".join(before + frame(record, payload) for record, payload, before in written) + end
    assert found_in(data) == [(record, payload) for record, payload, _ in written]


@settings(deadline=None)
@given(records, payloads, records, payloads)
def test_torn_at_every_byte(one: Record, first: bytes, two: Record, second: bytes) -> None:
    """A writer that died at any byte leaves the frames before it as they were, and the next writer appends."""
    intact, torn, later = frame(one, first), frame(two, second), frame({"later": True}, b"value")
    for cut in {0, 1, len(second), len(torn) - FOOTER.size, *range(max(0, len(torn) - 40), len(torn))}:
        assert found_in(intact + torn[:cut]) == [(one, first)]
        assert found_in(intact + torn[:cut] + later) == [(one, first), ({"later": True}, b"value")]
    assert found_in(intact + torn) == [(one, first), (two, second)]


def test_torn_at_really_every_byte() -> None:
    intact, torn = frame({"a": 1}, b"call"), frame({"attempt": "t1-ab", "x": "y" * 50}, MAGIC * 3 + b"payload")
    with tempfile.TemporaryFile() as file:
        for cut in range(len(torn)):
            file.seek(0)
            file.truncate()
            file.write(intact + torn[:cut])
            file.flush()
            [only] = backwards(file.fileno())
            assert only.record == {"a": 1} and only.end == len(intact)


@given(st.data())
def test_a_payload_that_is_itself_such_a_file(data: st.DataObject) -> None:
    inner = frame({"inner": 1}, b"x") + frame({"inner": 2}, MAGIC) + data.draw(garbage)
    outer = frame({"outer": 1}, inner)
    assert found_in(outer + frame({"outer": 2})) == [({"outer": 1}, inner), ({"outer": 2}, b"")]


def test_fake_magics_in_great_number() -> None:
    noise = MAGIC * 20_000
    data = noise + frame({"n": 1}, noise) + noise + frame({"n": 2}, b"end") + noise
    assert found_in(data) == [({"n": 1}, noise), ({"n": 2}, b"end")]


@pytest.mark.parametrize("size", [TAIL - FOOTER.size - 1, TAIL - 1, TAIL, TAIL + 1, 3 * TAIL + 7, 1 << 22])
def test_large_payloads_and_records(size: int) -> None:
    big = random.Random(size).randbytes(size)
    text = "x" * size
    data = frame({"n": 1}, big) + b"torn" + frame({"n": 2, "text": text}, b"small") + b"\0" * size + frame({"n": 3})
    assert found_in(data) == [({"n": 1}, big), ({"n": 2, "text": text}, b"small"), ({"n": 3}, b"")]


def test_a_large_payload_is_not_copied() -> None:
    big = bytes(TAIL)
    assert encode({}, big)[0] is big
    assert len(encode({}, big[:-1])) == 1


@pytest.mark.parametrize("offset", range(-7, 8))
def test_a_footer_across_the_edge_of_a_window(offset: int) -> None:
    """Windows are 64 KiB: a footer, and its magic, may lie across the edge of two."""
    for edge in (TAIL, 2 * TAIL):
        data = frame({"n": 1}, b"call") + b"\0" * (edge - FOOTER.size + offset)
        assert found_in(data) == [({"n": 1}, b"call")]


def test_a_record_that_is_too_long_is_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame({"n": 1}, b"call") + frame({"text": "x" * 1000})
    monkeypatch.setattr(frames, "MAX_RECORD", 500)
    assert found_in(data) == [({"n": 1}, b"call")]


@settings(max_examples=40)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_flipped_byte(place: int, flip: int) -> None:
    """Damage is noticed: the frame is not there, or its payload is None; the other frame is what it was."""
    first, second = frame({"n": 1}, b"call of the task"), frame({"n": 2}, b"its result")
    data = bytearray(first + second)
    place %= len(data)
    data[place] ^= flip
    found = found_in(bytes(data))
    damaged, other = (({"n": 1}, b"call of the task"), ({"n": 2}, b"its result"))[:: 1 if place < len(first) else -1]
    assert other in found
    assert damaged not in found
    assert all(each == other or each == (damaged[0], None) for each in found)


def test_a_damaged_payload_is_none() -> None:
    data = bytearray(frame({"n": 1}, b"payload"))
    data[0] ^= 1
    assert found_in(bytes(data)) == [({"n": 1}, None)]


@pytest.mark.parametrize("text", [b"[]", b"3", b"{", b"\xff", b'"x"', b""])
def test_a_record_that_is_no_object_is_no_frame(text: bytes) -> None:
    import struct
    import zlib
    foot = FOOTER.pack(MAGIC, len(text), 0, zlib.crc32(text), 0, 0)[:-4]
    assert found_in(text + foot + struct.pack("<I", zlib.crc32(foot))) == []


def test_lengths_beyond_the_start_are_no_frame() -> None:
    data = frame({"n": 1}, b"0123456789")
    assert found_in(data[1:]) == [] and found_in(data[-FOOTER.size:]) == []


@given(st.binary(max_size=300))
def test_files_that_are_something_else(data: bytes) -> None:
    assert found_in(data) == []


def test_what_json_can_not_say_is_told_as_text() -> None:
    assert found_in(frame({"path": os.PathLike, "set": {1}}))[0][0]["set"] == "{1}"
    assert found_in(frame({"lone": "\udcff"})) == [({"lone": "\udcff"}, b"")]


def test_read_range() -> None:
    with file_of(b"0123456789") as fd:
        assert read_range(fd, 2, 3) == b"234"
        assert read_range(fd, 8, 100) == b"89"
        assert read_range(fd, 20, 5) == b"" == read_range(fd, 2, 0)
