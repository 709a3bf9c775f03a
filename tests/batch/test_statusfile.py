"""Status files: what disBatch wrote is understood, what we write has its form, and a killed writer does no harm."""

from __future__ import annotations

import ast
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runforrest.batch.statusfile import (
    BARRIER,
    CHECK,
    HEADER,
    LATE,
    PER_ENGINE,
    SKIPPED,
    TASK,
    BadLine,
    StatusFile,
    StatusLine,
    failure,
    read,
    summary,
    whole_lines,
    written,
)
from tests.batch.sampled import SAMPLES, records
from tests.helpers import wait_for

FORM = re.compile(r"([R ][O ][E ][PSZ ]|[BC]    )(\t-?\d+){3}\t[^\t]*(\t-?\d+){2}(\t-?\d+\.\d{3}){3}"
                  r"(\t\d+\t('.*'|\".*\")){2}\t[^\n]*")
ENDED = StatusLine(TASK, 3, 4, -1, "node", 17, 0, 1.0, 3.5, command="true")

times = st.floats(0, 4e9)
texts = st.text(max_size=20)
lines = st.builds(
    StatusLine, st.sampled_from([TASK, PER_ENGINE, SKIPPED, LATE, BARRIER, CHECK]), st.integers(0), st.integers(0),
    st.integers(-1), st.from_regex(r"[\w.-]+", fullmatch=True), st.integers(-1, 1 << 22), st.integers(-100, 255), times,
    times, st.integers(0), texts, st.integers(0), texts, st.text().map(written))


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/*status.txt")), ids=lambda p: "-".join(p.parts[-2:]))
def test_what_disbatch_wrote(path: Path, tried: Callable[[str, int], None]) -> None:
    """Each record is understood, and comes out again as it was, but for the rounding of the time it took."""
    bad: list[BadLine] = []
    found = list(read(str(path), bad))
    assert not bad
    theirs = path.read_bytes().decode().split("\n")[:-1]
    if theirs and theirs[0] == HEADER:
        theirs.pop(0)
    for record, line in zip(found, theirs, strict=True):
        ours, fields = record.to_line().split("\t", 14), line.split("\t", 14)
        assert abs(float(ours.pop(7)) - float(fields.pop(7))) < 0.0015
        assert ours == fields
        assert summary(line) == (record.kind, record.task, record.code)
        assert StatusLine.from_line(line, SKIPPED).kind == SKIPPED
    tried("records of disBatch read and written again", len(found))


@given(lines)
def test_a_record_is_read_as_it_was_written(record: StatusLine) -> None:
    line = record.to_line()
    assert FORM.fullmatch(line)
    found = StatusLine.from_line(line)
    assert found.to_line().split("\t", 8)[8] == line.split("\t", 8)[8] and found.flags == record.flags
    assert (found.kind, found.task, found.out, found.err, found.command) == \
        (record.kind, record.task, record.out, record.err, record.command)
    fields = line.split("\t", 14)
    assert [ast.literal_eval(fields[11]), ast.literal_eval(fields[13])] == [record.out, record.err]


@given(st.binary(max_size=40))
def test_any_command_is_recognised(text: bytes) -> None:
    """One line, whatever its bytes are; and not another command's."""
    command = text.decode("utf-8", "surrogateescape")
    record = StatusLine.from_line(StatusLine(TASK, 0, 1, -1, "n", 1, 0, 1, 2, command=written(command)).to_line())
    assert "\n" not in record.command
    assert record.is_of(command) and not record.is_of(command + "x") and not record.is_of("x" + command)


@given(st.text("ab \t'\"\\xé", max_size=12))
def test_commands_that_disbatch_1_and_2_quoted(command: str) -> None:
    assert StatusLine(TASK, 0, 1, -1, "n", 1, 0, 1, 2, command=repr(command)).is_of(command)


@pytest.mark.parametrize(("flags", "kind"), [
    ("   ", TASK), ("R  ", TASK), ("ROES", SKIPPED), ("     ", TASK), ("B", BARRIER), ("B    ", BARRIER),
    ("C    ", CHECK),
    (" O P", PER_ENGINE), ("   Z", LATE)])
def test_flags_of_all_versions(flags: str, kind: str) -> None:
    line = flags + ENDED.to_line()[4:]
    assert StatusLine.from_line(line).kind == summary(line)[0] == kind


def test_disbatch_1() -> None:
    line = ("R  S\t0\t1\t-1\tworker032\t8016\t3\t10.0486528873\t1458660919.78\t1458660929.83\t"
            "0\t\"\"\t0\t\"\"\t'cd x ; y'")
    record = StatusLine.from_line(line)
    assert record == StatusLine(SKIPPED, 0, 1, -1, "worker032", 8016, 3, 1458660919.78, 1458660929.83,
                                command="'cd x ; y'")
    assert record.is_of("cd x ; y") and record.is_of("'cd x ; y'")
    assert "\t10.050\t1458660919.780\t1458660929.830\t0\t''\t0\t''\t" in record.to_line()


@pytest.mark.parametrize(("place", "value", "reason"), [
    (0, "", "flags"), (0, "X   ", "flags"), (0, "R", "flags"), (1, "x", "int"), (6, "", "int"), (7, "x", "float"),
    (8, "", "float"), (11, "'", "quotes"), (11, "os.abort()", "quotes"), (13, "''''", "quotes"),
    (13, r"'\x1'", "quotes"), (11, "'a' + 'b'", "quotes")])
def test_lines_that_are_none(place: int, value: str, reason: str, tmp_path: Path) -> None:
    fields = ENDED.to_line().split("\t")
    fields[place] = value
    text = "\t".join(fields)
    for reader in (StatusLine.from_line, summary):
        with pytest.raises(ValueError, match=reason):
            reader(text)
    file = tmp_path / "status.txt"
    file.write_bytes(b"\n".join([HEADER.encode(), ENDED.to_line().encode(), text.encode(), b"\xff", b"short", b""]))
    bad: list[BadLine] = []
    assert list(read(str(file), bad)) == [ENDED]
    assert [(b.file, b.line) for b in bad] == [(str(file), 3), (str(file), 4), (str(file), 5)]
    assert reason in bad[0].reason and "utf-8" in bad[1].reason and "1 fields" in bad[2].reason


# -- writing -----------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["", "a\n", "a\nb\n", "a\ntorn", "torn", "a\n" + "x" * 200_000])
@pytest.mark.parametrize("header", [False, True])
def test_a_torn_last_line_is_cut(there: str, header: bool, tmp_path: Path) -> None:
    path = tmp_path / "status.txt"
    path.write_text(there)
    whole = there[:there.rfind("\n") + 1]
    with StatusFile(path, header) as file:
        file.write(ENDED)
        first = HEADER + "\n" if header and not whole else ""
        assert path.read_text() == first + whole + ENDED.to_line() + "\n"
        file.write(ENDED)
    assert path.read_text() == first + whole + 2 * (ENDED.to_line() + "\n")


def test_an_open_file_is_taken_as_well(tmp_path: Path) -> None:
    path = tmp_path / "status.txt"
    path.write_bytes(b"a\nto")
    with open(path, "r+b") as open_file:
        StatusFile(open_file).write(ENDED)
        assert path.read_text() == "a\n" + ENDED.to_line() + "\n"


@given(st.binary(max_size=30), st.integers(1, 5))
def test_where_whole_lines_end(content: bytes, chunk: int) -> None:
    import io
    assert whole_lines(io.BytesIO(content), chunk) == content.rfind(b"\n") + 1


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    """Nothing is left of the record that had no room; the next one is written when there is room again."""
    path = tmp_path / "status.txt"
    with StatusFile(path) as file:
        file.write(ENDED)
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
        try:
            with pytest.raises(OSError):
                file.write(ENDED)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        file.write(ENDED)
        assert path.read_bytes() == before * 2


WRITER = """
import itertools, sys
from runforrest.batch.statusfile import StatusFile, StatusLine
with StatusFile(sys.argv[1]) as file:
    for number in itertools.count():
        file.write(StatusLine(" ", number, number + 1, -1, "node", 17, 0, 1.0, 2.0, command="x" * 5000))
"""


def larger(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


def test_writers_that_are_killed_leave_whole_records(tmp_path: Path, tried: Callable[[str, int], None]) -> None:
    path = tmp_path / "status.txt"
    whole = 0
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        try:
            wait_for(partial(larger, path, (whole + 20) * 5100))
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        StatusFile(path).close()
        bad: list[BadLine] = []
        whole = sum(1 for _ in read(str(path), bad))
        assert not bad and whole >= 20 and path.read_bytes().endswith(b"x\n")
    tried("status records that killed writers have left whole", whole)


def test_open_files_are_not_inherited(tmp_path: Path) -> None:
    with StatusFile(tmp_path / "status.txt") as file:
        assert not os.get_inheritable(file._file.fileno())


def test_samples_have_all_kinds() -> None:
    kinds = {r.kind for path in SAMPLES.glob("*/*status.txt") for r in records(path.parent.name, path.name)}
    assert kinds == {TASK, PER_ENGINE, SKIPPED, LATE, BARRIER, CHECK}


def test_a_last_line_without_newline_is_read_as_it_is() -> None:
    assert records("r-no-final-newline", "old")[-1].command == "echo c"


def test_the_record_of_a_failure_is_found_among_many(tmp_path: Path) -> None:
    path = tmp_path / "status.txt"
    with StatusFile(path, header=True) as file:
        for task in (12, 1, 5, 55):
            file.write(StatusLine(TASK, task, task + 1, -1, "a", 7, 0, 1.0, 2.0, command="echo R   \t5\t\t1\t"))
        file.write(StatusLine(PER_ENGINE, 5, 1, -1, "a", 7, 3, 1.0, 2.0, command="stop"))
        file.write(StatusLine(SKIPPED, 5, 1, -1, "a", 7, 3, 1.0, 2.0, command="skipped"))
        file.write(StatusLine(BARRIER, 6, 1, -1, "a", 7, 0, 1.0, 2.0, command="#DISBATCH BARRIER"))
        for code in (3, 4):
            file.write(StatusLine(TASK, 5, 6, -1, "a", 7, code, 1.0, 2.0, command="exit"))
    found = failure(str(path), 5)
    assert found is not None and (found.code, found.line, found.command) == (3, 6, "exit")
    assert failure(str(path), 12) is None and failure(str(path), 6) is None and failure(str(path), 99) is None
    path.write_bytes(b"")
    assert failure(str(path), 5) is None
