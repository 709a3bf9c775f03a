"""What a line of a task file means."""

from __future__ import annotations

import io
import itertools
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runforrest.batch.directives import LONGEST, Barrier, PerEngine, TaskLine, check, parse
from runforrest.errors import TaskFileError

Item = TaskLine | Barrier | PerEngine


def read(text: bytes, after: int = 0) -> list[Item]:
    return list(parse(io.BytesIO(text), "Tasks", after))


def repeats(text: bytes) -> list[tuple[int, str]]:
    return [(i.repeat, i.command) for i in read(b"#DISBATCH REPEAT " + text) if isinstance(i, TaskLine)]


@pytest.mark.parametrize(("line", "commands"), [
    (b"echo a\n", ["echo a"]),
    (b"echo a\r\n", ["echo a"]),
    (b"echo a", ["echo a"]),
    (b"  echo a \t\n", ["  echo a \t"]),
    (b"echo one\recho two\r\recho three\n", ["echo one", "echo two", "echo three"]),
    (b"\x0cecho a\x0b\n", ["\x0cecho a\x0b"]),
    ("echo a\u2028b\x85c\n".encode(), ["echo a\u2028b\x85c"]),
    (b"echo \xff\xfe\n", ["echo \udcff\udcfe"]),
    (b"\n", []), (b" \t\x0b\x0c\n", []), (b"# x\n", []), (b"\t #x\n", []),
    (b" #DISBATCH BARRIER\n", []), (b"#disbatch PREFIX x\n", []), (b"##DISBATCH foo\n", []),
    (b"#DISBATCHxyz\n", ["#DISBATCHxyz"]), (b"#DISBATCHED repeat\n", ["#DISBATCHED repeat"]),
])
def test_lines(line: bytes, commands: list[str]) -> None:
    assert [(i.command, i.line) for i in read(line)] == [(command, 1) for command in commands]


def test_lines_of_one_message_share_its_number() -> None:
    found = list(parse([b"a\nb\n", b"#DISBATCH PREFIX p \nc", b"d"], "messages"))
    assert [(i.task, i.line, i.command) for i in found] == [(0, 1, "a"), (1, 1, "b"), (2, 2, "p c"), (3, 3, "p d")]


@pytest.mark.parametrize(("text", "expected"), [
    (b"3", [(0, ""), (1, ""), (2, "")]),
    (b"2 echo", [(0, "echo"), (1, "echo")]),
    (b"2 start 5 echo", [(5, "echo"), (6, "echo")]),
    (b"2 step 3 echo", [(0, "echo"), (3, "echo")]),
    (b"2 start 5 step 3 echo", [(5, "echo"), (8, "echo")]),
    (b"0 echo", []), (b"0", []),
    (b"2  echo", [(0, " echo"), (1, " echo")]),
    (b"2 echo trailing   ", [(0, "echo trailing   "), (1, "echo trailing   ")]),
    (b"2 START 7 STEP 2 echo", [(7, "echo"), (9, "echo")]),
    (b"3 step 0 echo", [(0, "echo"), (0, "echo"), (0, "echo")]),
    (b"1 start 007 echo", [(7, "echo")]),
    (b" 2   start  5   step  4  echo", [(5, " echo"), (9, " echo")]),
    (b"2 start 1 step 2 ", [(1, ""), (3, "")]),
    (b"1 step3.sh", [(0, "step3.sh")]), (b"1 starter 5", [(0, "starter 5")]), (b"1 start job", [(0, "start job")]),
])
def test_repeat(text: bytes, expected: list[tuple[int, str]]) -> None:
    assert repeats(text) == expected


@pytest.mark.parametrize(("text", "check", "key"), [
    (b"BARRIER", False, ""), (b"BARRIER ", False, ""), (b"BARRIER\t", False, ""), (b"BARRIER\r", False, ""),
    (b"BARRIER key", False, "key"), (b"BARRIER key with blanks ", False, "key with blanks "),
    (b"BARRIER  foo", False, " foo"), (b"BARRIER checkpoint", False, "checkpoint"),
    (b"BARRIER CHECK", True, ""), (b"BARRIER CHECK ", True, ""), (b"BARRIER CHECK key2", True, "key2"),
    (b"BARRIER CHECK  two", True, " two"),
])
def test_barrier(text: bytes, check: bool, key: str) -> None:
    line = b"#DISBATCH " + text
    assert read(b"a\n" + line + b"\nb\n") == [
        TaskLine(0, 1, -1, "a"), Barrier(1, 2, check, key, line.rstrip(b"\r").decode()), TaskLine(2, 3, -1, "b")]


def test_prefix_and_suffix_are_joined_as_bytes() -> None:
    """Also where a character is cut in two."""
    assert read(b"#DISBATCH PREFIX echo \xc3\n\xbc\n") == [TaskLine(0, 2, -1, "echo ü")]
    text = (b"#DISBATCH prefix (\n#DISBATCH Suffix  )\na\n#DISBATCH REPEAT 1\n"
            b"#DISBATCH SUFFIX \n#DISBATCH PREFIX \nb")
    assert read(text) == [TaskLine(0, 3, -1, "(a )"), TaskLine(1, 4, 0, "( )"), TaskLine(2, 7, -1, "b")]


def test_per_engine() -> None:
    found = read(b"#DISBATCH PREFIX p \n#DISBATCH PERENGINE STOP a\n\n#DISBATCH perengine START b\n"
                 b"#DISBATCH PERENGINE START \n#DISBATCH PERENGINE STOP c\nd\n")
    assert found == [PerEngine(0, 2, "STOP", "p a"), PerEngine(0, 4, "START", "p b"), PerEngine(1, 5, "START", "p "),
                     PerEngine(1, 6, "STOP", "p c"), TaskLine(0, 7, -1, "p d")]


@pytest.mark.parametrize(("line", "instead"), [
    (b"#DISBATCH", "one of PREFIX"), (b"#DISBATCH ", "one of PREFIX"), (b"#DISBATCH foo", "one of PREFIX"),
    (b"#DISBATCH\tPREFIX x", "'#DISBATCH PREFIX text'"), (b"#DISBATCH  PREFIX x", "'#DISBATCH PREFIX text'"),
    (b"#DISBATCHBARRIER", "'#DISBATCH BARRIER"), (b"#DISBATCH PREFIX", "'#DISBATCH PREFIX text'"),
    (b"#DISBATCH SUFIX x", "'#DISBATCH SUFFIX text'"), (b"#DISBATCH PERNODE x", "PERENGINE START"),
    (b"#DISBATCH barrier", "BARRIER and CHECK in capitals"), (b"#DISBATCH Barrier x", "in capitals"),
    (b"#DISBATCH BARRIERX foo", "'#DISBATCH BARRIER"), (b"#DISBATCH BARRIERCHECK", "'#DISBATCH BARRIER"),
    (b"#DISBATCH BARIER", "'#DISBATCH BARRIER"), (b"#DISBATCH BARRIER\tkey", "'#DISBATCH BARRIER"),
    (b"#DISBATCH BARRIER CHECKX", "CHECK in capitals"), (b"#DISBATCH BARRIER check", "CHECK in capitals"),
    (b"#DISBATCH BARRIER  CHECK", "one blank"), (b"#DISBATCH BARRIER key CHECK", "'#DISBATCH BARRIER CHECK [key]'"),
    (b"#DISBATCH REPEAT", "REPEAT n"), (b"#DISBATCH REPEAT -1 echo", "not negative"),
    (b"#DISBATCH REPEAT x", "REPEAT n"), (b"#DISBATCH REPEAT 2.5 echo", "REPEAT n"),
    (b"#DISBATCH REPEAT 2echo", "REPEAT n"),
    (b"#DISBATCH REPEAT 2\techo", "REPEAT n"), (b"#DISBATCH REPEATX 2 echo", "REPEAT n"),
    (b"#DISBATCH REPEAT 2 step 3 start 5 echo", "in this order"), (b"#DISBATCH REPEAT 2 start -5 echo", "not negative"),
    (b"#DISBATCH REPEAT 2 start5 echo", "REPEAT n"), (b"#DISBATCH REPEAT 2 start 5echo", "REPEAT n"),
    (b"#DISBATCH REPEAT 2 start", "REPEAT n"), (b"#DISBATCH REPEAT 2 start 5 step", "REPEAT n"),
    (b"#DISBATCH REPEAT 2 start 5 start 6 echo", "REPEAT n"), (b"#DISBATCH REPEAT 2 step=3 echo", "REPEAT n"),
    (b"#DISBATCH REPEAT 12345678901234567890 echo", "REPEAT n"),
    (b"#DISBATCH PERENGINE start x", "START and STOP in capitals"),
    (b"#DISBATCH PERENGINE STOP", "PERENGINE STOP command"), (b"#DISBATCH PERENGINE STOP a\0b", "it without"),
])
def test_what_disbatch_would_pass_over_is_refused(line: bytes, instead: str) -> None:
    items = parse([b"\n", b"# comment\r\n", line + b"\n", b"never\n"], "jobs/Tasks")
    with pytest.raises(TaskFileError) as info:
        list(items)
    assert vars(info.value) == {"file": "jobs/Tasks", "line": 3}
    assert str(info.value).startswith("jobs/Tasks, line 3: ") and instead in str(info.value)


@pytest.mark.parametrize("before", [b"echo", b"#DISBATCH REPEAT 0", b"#DISBATCH BARRIER", b"#DISBATCHxyz"])
def test_per_engine_too_late(before: bytes) -> None:
    with pytest.raises(TaskFileError, match="line 2: PERENGINE stands after"):
        read(before + b"\n#DISBATCH PERENGINE START x\n")


@pytest.mark.parametrize("line", [b"%s", b"#DISBATCH REPEAT 2 %s", b"#DISBATCH PERENGINE START %s"])
def test_a_command_that_fits_into_no_record(line: bytes) -> None:
    text = b"#DISBATCH PREFIX pre\n#DISBATCH SUFFIX fix\n" + line
    assert check(io.BytesIO(text % (b"x" * (LONGEST - 6))), "Tasks") <= 2
    with pytest.raises(TaskFileError, match=r"line 3: the command has 2,097,153 bytes"):
        check(io.BytesIO(text % (b"x" * (LONGEST - 5))), "Tasks")


def test_byte_order_mark() -> None:
    with pytest.raises(TaskFileError, match="line 1: the file begins with a byte order mark"):
        read(b"\xef\xbb\xbfecho a\n")
    assert len(read(b"a\n\xef\xbb\xbfecho a\n")) == 2


# -- as a whole --------------------------------------------------------------------------

words = st.text("ab #é\t'0", max_size=8)


@st.composite
def task_files(draw: st.DrawFn) -> tuple[bytes, list[Item]]:
    """A task file of any well-formed lines, and what it means, worked out in another way than the parser's."""
    lines: list[str] = []
    expected: list[Item] = []
    prefix = suffix = ""

    def case(keyword: str) -> str:
        return draw(st.sampled_from([keyword, keyword.lower(), keyword.title()]))

    number = 0
    for line in range(1, draw(st.integers(0, 12)) + 1):
        what, text = draw(st.sampled_from(["task", "prefix", "suffix", "repeat", "barrier", "nothing"])), draw(words)
        if what == "task":
            lines.append("x" + text)
            expected.append(TaskLine(number, line, -1, prefix + "x" + text + suffix))
            number += 1
        elif what == "prefix":
            lines.append(f"#DISBATCH {case('PREFIX')} {text}")
            prefix = text
        elif what == "suffix":
            lines.append(f"#DISBATCH {case('SUFFIX')} {text}")
            suffix = text
        elif what == "repeat":
            count, start, step = draw(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 3)))
            lines.append(f"#DISBATCH {case('REPEAT')} {count} {case('START')} {start} {case('STEP')} {step} x{text}")
            for index in range(count):
                expected.append(TaskLine(number, line, start + step * index, prefix + "x" + text + suffix))
                number += 1
        elif what == "barrier":
            check = draw(st.booleans())
            lines.append(f"#DISBATCH BARRIER{' CHECK' if check else ''} k{text}")
            expected.append(Barrier(number, line, check, "k" + text, lines[-1]))
            number += 1
        else:
            lines.append(draw(st.sampled_from(["", "  ", "# " + text, "#disbatch BARRIER", " #DISBATCH foo"])))
    ends = st.sampled_from(["\n", "\r\n"])
    body = "".join(line + draw(ends) for line in lines)
    return (body if draw(st.booleans()) else body.removesuffix("\n").removesuffix("\r")).encode(), expected


@given(task_files())
def test_any_task_file(example: tuple[bytes, list[Item]]) -> None:
    text, expected = example
    assert read(text) == expected
    assert check(io.BytesIO(text), "Tasks") == len(expected)


@given(task_files(), st.integers(0, 30))
def test_what_was_fed_before_is_left_out(example: tuple[bytes, list[Item]], after: int) -> None:
    text, expected = example
    assert read(text, after) == [item for item in expected if item.task >= after]


lines_of_bytes = st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")) \
    .filter(lambda line: not line.startswith((b"#DISBATCH", b"\xef\xbb\xbf")))


@given(st.lists(lines_of_bytes))
def test_any_bytes_are_kept(lines: list[bytes]) -> None:
    """Without directives: every line that says something is a command, to the byte."""
    found = read(b"".join(line + b"\n" for line in lines))
    meant = [line for line in lines if line.strip() and not line.lstrip().startswith(b"#")]
    assert [item.command.encode("utf-8", "surrogateescape") for item in found] == meant


@given(st.lists(st.sampled_from([
    b"PREFIX", b"SUFFIX", b"REPEAT", b"BARRIER", b"CHECK", b"PERENGINE", b"START", b"stop", b"start", b"step", b"3",
    b"-1", b" ", b" ", b" ", b"\t", b"x", b"\r", b"\xff", b"\0"]), max_size=12).map(b"".join))
def test_any_directive_is_read_or_refused(text: bytes) -> None:
    try:
        found = read(b"#DISBATCH " + text + b"\n")
    except TaskFileError as error:
        assert vars(error) == {"file": "Tasks", "line": 1} and "; write " in str(error)
        str(error).encode()
    else:
        assert all(item.line == 1 for item in found)


def test_nothing_is_read_ahead() -> None:
    """A line from a slow source is there before the next one has been asked for."""
    asked = 0

    def source() -> Iterator[bytes]:
        nonlocal asked
        for number in itertools.count():
            asked += 1
            yield b"echo %d\n" % number

    items = parse(source(), "-")
    for expected in range(5):
        assert next(items) == TaskLine(expected, expected + 1, -1, f"echo {expected}") and asked == expected + 1


@pytest.mark.parametrize("text", [b"echo %d\n", b"#DISBATCH REPEAT 50 echo %d\n"])
def test_memory_is_flat(text: bytes, tried: Callable[[str, int], None]) -> None:
    tracemalloc.start()
    try:
        count = sum(1 for _ in parse((text % number for number in range(20_000)), "Tasks"))
        assert count >= 20_000 and tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
    tried("tasks read from task files in flat memory", count)


def test_a_huge_repeat_is_skipped_at_once() -> None:
    assert read(b"#DISBATCH REPEAT 123456789012345678 x\nlast\n", 123456789012345678) == \
        [TaskLine(123456789012345678, 2, -1, "last")]
