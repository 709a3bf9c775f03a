"""disBatch 3.0 itself and `runforrest batch` run the same task files, and write the same status files.

disBatch comes from the package registry, into an environment of this session.  It waits up to five seconds before it
begins, and looks for the end of a task once a second, so all of its runs go on side by side.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runforrest.batch.statusfile import BARRIER, CHECK, PER_ENGINE, SKIPPED, TASK, StatusLine
from tests.batch.support import records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGE = "disbatch==3.0"
SECONDS = 300
HERE = ("-s", "localhost:2", "-p", "x")


@dataclass
class Case:
    """A task file, options, and disBatch's exit code with ours, where that is a better one.

    left  patterns of files that the tasks leave, which are compared
    """

    text: bytes
    options: Sequence[str] = ()
    codes: tuple[int, int] = (0, 0)
    left: Sequence[str] = field(default_factory=tuple)


# The examples of disBatch's documentation, in our words: a program per line; a prefix and a suffix that give each task
# its folder, its set-up and its log; a parameter sweep by REPEAT; stages.
SWEEP = b"""\
# Each task in a folder of its own, with some set-up, and its output in a log.
#DISBATCH PREFIX ( mkdir -p work; cd work; A_SETTING=7; \n\
#DISBATCH SUFFIX  ) > ${DISBATCH_NAMETASKS}_${DISBATCH_JOBID}_${DISBATCH_TASKID_ZP}.log 2>&1

echo alpha $A_SETTING
echo beta; echo trouble >&2; exit 3
#DISBATCH REPEAT 3 start 100 step 50 echo at $DISBATCH_REPEAT_INDEX ${DISBATCH_REPEAT_INDEX_ZP}
#DISBATCH PREFIX \n\
#DISBATCH SUFFIX \n\
#DISBATCH BARRIER
cat Tasks_x_*.log | wc -l
env | grep ^DISBATCH_ | grep -v -e KVSSTCP -e CYLINDER | sort > environment
#DISBATCH REPEAT 1 start 12 env | grep ^DISBATCH_ | grep -v -e KVSSTCP -e CYLINDER | sort > environment_repeat
"""

# Everything that a line may be.
FORMS = (
    "#DISBATCH BARRIER\r\n"
    "echo with a carriage return\r\n"
    "\r\n"
    "  \t  \n"
    "# a comment\n"
    "   # another one\n"
    " #DISBATCH BARRIER\n"
    "#disbatch BARRIER\n"
    "#DISBATCHED but a task\n"
    "   echo leading and trailing   \n"
    "echo one\recho two\r\recho three\n"
    "exit 3\n"
    "exit 255\n"
    "exit 300\n"
    "false || true\n"
    "kill -9 $$\n"
    "kill -15 $$\n"
    "kill -USR1 $$\n"
    "(exit 7); echo $? >&2\n"
    "echo out; echo err >&2; exit 1\n"
    "no_such_command_at_all with arguments\n"
    "if then\n"
    "echo grüße 😀 \x85 \u2028 äöü # ein Kommentar\n"
    "echo \udcff\udcfe not UTF-8\n"
    "echo\ta tab\tand \"quotes\" 'of' both kinds\n"
    "echo \"it's\"\n"
    "echo 'a \\ and a \"'\n"
    "printf '\\001\\033[31m\\177'\n"
    "cat; echo $?; tty\n"
    "echo $0 $#; echo $-\n"
    "read x; echo $?\n"
    "sleep 0.3 & wait; echo waited\n"
    "echo a NUL \0 here\n"
    "cd /; pwd\n"
    "pwd | grep -o '[^/]*$'\n"
    "echo 'no newline at the end'").encode("utf-8", "surrogateescape")

# Where a snippet is cut.
SNIPPETS = b"".join(b"head -c %d /dev/zero | tr '\\0' x\n" % size for size in (0, 1, 39, 40, 41, 79, 80, 81, 200_000)) \
    + f"printf '%s' {'é' * 45}\nprintf 'a'; printf '€%.0s' {{1..50}} >&2\n".encode() \
    + b"for i in {1..60}; do echo $i; done; for i in {1..9}; do sleep 0.02; echo $i$i$i$i$i$i >&2; done\n"

PREFIXES = b"""\
#DISBATCH suffix   two blanks
#DISBATCH Prefix echo pre \n\
a
  b
#DISBATCH PREFIX echo other;
echo c; echo
#DISBATCH SUFFIX \n\
echo d
#DISBATCH PREFIX echo # \n\
#DISBATCH REPEAT 2
#DISBATCH PREFIX \n\
#DISBATCH REPEAT 1
"""

REPEATS = b"""\
#DISBATCH PREFIX echo $DISBATCH_REPEAT_INDEX $DISBATCH_TASKID \n\
#DISBATCH REPEAT 2
#DISBATCH REPEAT 2 a
#DISBATCH repeat 2 start 5 b
#DISBATCH Repeat 2 STEP 3 c
#DISBATCH REPEAT 02 start 007 step 4 d
#DISBATCH REPEAT 0 e
#DISBATCH REPEAT 2 step 0 f
#DISBATCH REPEAT  2   start  5   step  4  g
#DISBATCH REPEAT 1  h and blanks   \n\
#DISBATCH REPEAT 1 start 3   \n\
#DISBATCH REPEAT 1 starting 5
i
"""

STAGES = b"""\
#DISBATCH PREFIX echo $DISBATCH_TASKID >> order; \n\
sleep 0.4; false
true
#DISBATCH BARRIER first
#DISBATCH BARRIER
true
#DISBATCH BARRIER CHECK
sleep 0.2
#DISBATCH BARRIER CHECK a key with blanks\x20
#DISBATCH REPEAT 3 start 4 echo $DISBATCH_REPEAT_INDEX
exit 9
#DISBATCH BARRIER CHECK last
echo never
#DISBATCH BARRIER
"""

ENGINES = b"""\
#DISBATCH PERENGINE STOP cat up; rm up
# Prefix and suffix are for these as well.
#DISBATCH PREFIX : prefix; \n\
#DISBATCH perengine START echo up > up

#DISBATCH PERENGINE START echo two >&2
#DISBATCH PERENGINE STOP exit 4
#DISBATCH PREFIX \n\
cat up
cat up; exit 1
#DISBATCH BARRIER
cat up
"""

CASES = {
    "sweep": Case(SWEEP, ("-e", "--status-header"), (1, 1), ("Tasks_x_*.log", "environment*")),
    "forms": Case(FORMS),
    "snippets": Case(SNIPPETS),
    "prefixes": Case(PREFIXES),
    "repeats": Case(REPEATS, ("-e",)),
    "stages": Case(STAGES, (), (0, 1)),
    "engines": Case(ENGINES, ("-e",), (1, 1)),
    "barrier_last": Case(b"true\n#DISBATCH BARRIER\n", ("-e",)),
    "comments": Case(b"# nothing\n\n"),
}


# -- running them ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disbatch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of disBatch 3.0."""
    folder = tmp_path_factory.mktemp("disbatch")
    venv.create(folder, with_pip=True)
    installed = subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q",
                                "--disable-pip-version-check", PACKAGE],
                               capture_output=True, text=True, timeout=SECONDS)
    if installed.returncode:
        pytest.skip(f"{PACKAGE} can't be installed: {installed.stderr.strip()[-300:]}")
    return folder / "bin" / "disBatch"


def environment(command: Sequence[str]) -> dict[str, str]:
    """disBatch starts programs of its own environment; and both get what no scheduler has set."""
    path = os.pathsep.join([os.path.dirname(command[0]), os.environ["PATH"]])
    return {**{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "DISBATCH"))},
            "PATH": path, "LC_ALL": "C.UTF-8"}


@contextlib.contextmanager
def started(command: Sequence[str], folder: Path, text: bytes, options: Sequence[str]) -> \
        Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Tasks").write_bytes(text)
    with open(folder / "out", "wb") as out, \
            subprocess.Popen([*command, *HERE, *options, "Tasks"], cwd=folder, env=environment(command),
                             stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


OURS = (sys.executable, "-m", "runforrest", "batch")


@dataclass
class Pair:
    """The folders in which both have run the same, and the exit codes."""

    theirs: Path
    ours: Path
    codes: tuple[int, int]


@pytest.fixture(scope="module")
def pairs(disbatch: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    base = tmp_path_factory.mktemp("both")
    with contextlib.ExitStack() as stack:
        theirs = {name: stack.enter_context(started([str(disbatch)], base / "theirs" / name, case.text, case.options))
                  for name, case in CASES.items()}
        codes = {}
        for name, case in CASES.items():
            with started(OURS, base / "ours" / name, case.text, case.options) as process:
                codes[name] = process.wait(SECONDS)
        return {name: Pair(base / "theirs" / name, base / "ours" / name, (theirs[name].wait(SECONDS), codes[name]))
                for name in CASES}


# -- comparing them -------------------------------------------------------------------------


def fields(folder: Path) -> list[list[str]]:
    """The 15 fields of each record, as they stand in the file."""
    *lines, rest = (folder / "x_status.txt").read_bytes().decode().split("\n")
    assert not rest, "the last line has its newline"
    found = [line.split("\t", 14) for line in lines if not line.startswith("ROE[")]
    assert all(len(each) == 15 for each in found)
    return found


def compared(record: list[str]) -> list[str]:
    """What must be equal: all but times, pids, and what a command that can't be started is said to have written."""
    flags, task, line, repeat, node, pid, code, *_, out_bytes, out, err_bytes, err, command = record
    if (pid, code) == ("-1", "200"):
        assert int(err_bytes) > 0
        err_bytes = err = ""
    return [flags, task, line, repeat, node, str(int(pid) > 0), code, out_bytes, out, err_bytes, err, command]


def by_number(found: list[list[str]]) -> list[list[str]]:
    return [compared(r) for r in sorted(found, key=lambda r: (r[0][3] == PER_ENGINE, int(r[2]), int(r[1])))]


def check_order(found: list[StatusLine]) -> None:
    """What stands before a barrier in the task file does so in the status file."""
    tasks = [record for record in found if record.kind != PER_ENGINE]
    for place, record in enumerate(tasks):
        if record.kind in (BARRIER, CHECK):
            assert all(r.task < record.task for r in tasks[:place]), record
            assert all(r.task > record.task for r in tasks[place + 1:]), record
            assert all(r.finish <= record.finish + 0.002 for r in tasks[:place]), record


@pytest.mark.parametrize("name", CASES)
def test_the_same_task_file_gives_the_same_status_file(name: str, pairs: dict[str, Pair],
                                                       tried: Callable[[str, int], None]) -> None:
    case, pair = CASES[name], pairs[name]
    assert pair.codes == case.codes, (pair.theirs / "out").read_text() + (pair.ours / "out").read_text()
    theirs, ours = fields(pair.theirs), fields(pair.ours)
    assert by_number(ours) == by_number(theirs)
    for folder in (pair.theirs, pair.ours):
        check_order(records(folder))
    assert first_line(pair.ours) == first_line(pair.theirs)
    for pattern in case.left:
        files = sorted(path.relative_to(pair.theirs) for path in pair.theirs.glob(pattern))
        assert files
        for file in files:
            assert (pair.ours / file).read_text() == (pair.theirs / file).read_text()
    tried("records of disBatch 3.0 and of ours compared, field by field", len(ours))


def first_line(folder: Path) -> str:
    """The header, if there is one."""
    with open(folder / "x_status.txt") as file:
        line = file.readline()
    return line if line.startswith("ROE") else ""


# -- resuming each other --------------------------------------------------------------------


LATER = b"#DISBATCH REPEAT 2 start 3 exit $DISBATCH_REPEAT_INDEX\necho appended; exit 6\n"
RESUMED = {"forms": FORMS + b"\n" + LATER, "repeats": REPEATS + LATER, "engines": ENGINES + LATER,
           "sweep": SWEEP + LATER}


@dataclass
class Resumed:
    """What each made of the other's status file, and then of what came of that."""

    theirs: Path
    ours: Path
    ours_again: Path


@pytest.fixture(scope="module")
def resumed(disbatch: Path, pairs: dict[str, Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resumed]:
    """disBatch goes on from our status files and we from those of disBatch, in files to which lines were added."""
    base = tmp_path_factory.mktemp("resumed")
    found = {}
    with contextlib.ExitStack() as stack:
        theirs = {}
        for name, text in RESUMED.items():
            options = ("-R", "-r", str(pairs[name].ours / "x_status.txt"))
            theirs[name] = stack.enter_context(started([str(disbatch)], base / "theirs" / name, text, options))
        for name, text in RESUMED.items():
            status = str(pairs[name].theirs / "x_status.txt")
            for folder in ("ours", "ours_again"):
                with started(OURS, base / folder / name, text, ("-R", "-r", status)) as process:
                    assert process.wait(SECONDS) == 0, (base / folder / name / "out").read_text()
                status = str(base / folder / name / "x_status.txt")
            assert theirs[name].wait(SECONDS) == 0, (base / "theirs" / name / "out").read_text()
            found[name] = Resumed(*(base / folder / name for folder in ("theirs", "ours", "ours_again")))
    return found


@pytest.mark.parametrize("name", RESUMED)
def test_each_resumes_from_the_other(name: str, pairs: dict[str, Pair], resumed: dict[str, Resumed],
                                     tried: Callable[[str, int], None]) -> None:
    theirs, ours = fields(resumed[name].theirs), fields(resumed[name].ours)
    assert by_number(ours) == by_number(theirs)
    for folder, source in ((resumed[name].theirs, pairs[name].ours), (resumed[name].ours, pairs[name].theirs)):
        check_order(records(folder))
        before = {r[1]: r for r in fields(source) if r[0][3] == TASK and r[0][0] not in (BARRIER, CHECK)}
        skipped = {r[1]: r for r in fields(folder) if r[0][3] == SKIPPED}
        assert skipped.keys() == {task for task, record in before.items() if record[6] == "0"}
        for task, record in skipped.items():        # the flags have an S more, and what elapsed is rounded again
            assert record[1:7] + record[8:] == before[task][1:7] + before[task][8:]
    tried("records resumed by disBatch 3.0 from ours and by ours from its", len(theirs) + len(ours))


@pytest.mark.parametrize("name", RESUMED)
def test_what_was_skipped_once_is_skipped_again(name: str, resumed: dict[str, Resumed]) -> None:
    """Where disBatch would run it again: records of skipped tasks count."""
    before = {r.task: r for r in records(resumed[name].ours) if r.kind in (TASK, SKIPPED)}
    again = {r.task: r for r in records(resumed[name].ours_again) if r.kind in (TASK, SKIPPED)}
    assert again.keys() == before.keys()
    assert all((again[task].kind == SKIPPED) == (not record.code) for task, record in before.items())
