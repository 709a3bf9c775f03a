"""What all benchmarks share: where to measure, how to start a contender, and tables."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = Path(__file__).resolve().parent / "contenders"
SLOTS = 2
MOST_SECONDS = 1800                # for one run of one contender
Row = dict[str, Any]


class Broken(Exception):
    """The benchmark itself does not work; the text says what to do."""


# -- where to measure --------------------------------------------------------------------


def filesystem(folder: str | os.PathLike[str]) -> str:
    """The type of the filesystem of this folder, as the kernel calls it; '' where it does not say."""
    mount = _mount(folder)
    return mount[1] if mount else ""


def _mount(folder: str | os.PathLike[str]) -> tuple[str, str, str] | None:
    """(mount point, type, device) of the filesystem that this folder is on."""
    path = os.path.realpath(folder)
    best = None
    try:
        with open("/proc/self/mountinfo") as file:
            for line in file:
                left, _, right = line.partition(" - ")
                point = left.split()[4].replace("\\040", " ")
                if os.path.commonpath([path, point]) == point and (best is None or len(point) >= len(best[0])):
                    best = (point, *right.split()[:2])
    except OSError:
        pass
    return best


def trap(folder: str | os.PathLike[str]) -> str:
    """Why times from this folder mislead, or ''."""
    mount = _mount(folder)
    if mount is None or mount[1] == "tmpfs":
        return ""
    point, kind, device = mount
    if kind == "ext4":
        with contextlib.suppress(OSError):
            if any(name.rpartition("-")[0] == os.path.basename(device) for name in os.listdir("/proc/fs/jbd2")):
                return ""
        return (f"{point} is an ext4 without a journal: creating files there is up to twenty times slower for "
                f"minutes after others were deleted; use --dir on another filesystem, or --ext4")
    return f"{folder} is on {kind}, which may distort file operations; --dir chooses another place"


def default_folder() -> str:
    """tmpfs if there is one, else the temporary folder."""
    shm = "/dev/shm"
    return shm if filesystem(shm) == "tmpfs" and os.access(shm, os.W_OK) else tempfile.gettempdir()


def folder_arguments(parser: Any, default: str | None = None, which: str = "/dev/shm, if it is tmpfs") -> None:
    parser.add_argument("--dir", default=default, help=f"measure in a new folder in here (default: {which})")
    parser.add_argument("--ext4", action="store_true", help="measure on a new ext4 image with a journal (root only)")


@contextlib.contextmanager
def scratch(options: Any, report: Report) -> Iterator[Path]:
    """A fresh folder to measure in, removed at the end; says where it is."""
    with contextlib.ExitStack() as stack:
        base = options.dir or default_folder()
        if options.ext4:
            base = stack.enter_context(ext4_image(options.dir or tempfile.gettempdir()))
        folder = tempfile.mkdtemp(prefix="benchmark-", dir=base)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        report.facts(filesystem=filesystem(folder) or "?", folder=folder)
        if trap(folder):
            report.warn(trap(folder))
        yield Path(folder)


@contextlib.contextmanager
def ext4_image(where: str, megabytes: int = 2048) -> Iterator[str]:
    """A journaled ext4 in a file, mounted; unmounted and removed whatever happens."""
    if os.geteuid() != 0:
        raise Broken("--ext4 mounts an image and needs root; use --dir with a folder on a journaled filesystem")
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            raise Broken(f"--ext4 needs {tool}; use --dir with a folder on a journaled filesystem")
    folder = tempfile.mkdtemp(prefix="benchmark-ext4-", dir=where)
    image, point = f"{folder}/image", f"{folder}/mounted"
    try:
        os.mkdir(point)
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        _system("mkfs.ext4", "-q", "-F", "-O", "has_journal", "-N", "500000", image)
        try:
            _system("mount", "-o", "loop", image, point)
            yield point
        finally:
            _unmount(point)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _system(*command: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise Broken(f"{' '.join(command)}: {run.stderr.strip()}")


def _unmount(point: str) -> None:
    for _ in range(50):
        if not os.path.ismount(point):
            return
        if subprocess.run(["umount", point], capture_output=True).returncode:
            time.sleep(0.1)                         # a process is on its way out
    if os.path.ismount(point):
        subprocess.run(["umount", "-l", point], capture_output=True)


# -- contenders --------------------------------------------------------------------------


@dataclass
class Contender:
    """A program that is measured; it prints its measurement as its last line, one JSON object.

    name      its row in the table
    command   what to start
    n         how many tasks
    path      where its Python finds modules
    """

    name: str
    command: Sequence[str]
    n: int
    path: Sequence[Path] = (ROOT, CONTENDERS)
    measured: list[Row] = field(default_factory=list)

    def median(self, key: str = "us") -> float:
        found = [m[key] for m in self.measured if m.get(key) is not None]
        return statistics.median(found) if found else float("nan")


def script(name: str, *arguments: object, python: Sequence[str] = ()) -> list[str]:
    """The command that runs a contender of ours."""
    return [*(python or [sys.executable]), str(CONTENDERS / f"{name}.py"), *map(str, arguments)]


def measure(command: Sequence[str], folder: Path, path: Sequence[Path] = (ROOT, CONTENDERS)) -> Row:
    """Start a contender in a fresh folder and return what it measured, with how busy others kept the machine.

    Raises Broken with the end of what it printed.
    """
    place = tempfile.mkdtemp(prefix="run-", dir=folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OPENBLAS_NUM_THREADS": "1",
                   "OMP_NUM_THREADS": "1"}
    if os.path.isabs(command[0]):                           # RunForrest starts the `python` that PATH finds
        environment["PATH"] = os.path.dirname(command[0]) + os.pathsep + environment.get("PATH", os.defpath)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)        # else every child would compile what it imports
    busy, total = _machine()
    try:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen([*command, "--dir", place], stdout=out, stderr=err, env=environment,
                                       cwd=place, stdin=subprocess.DEVNULL, start_new_session=True)
            usage, status = _wait(process)
            out.seek(0)
            err.seek(0)
            lines, messages = out.read().splitlines(), err.read()
        if status or not lines:
            raise Broken(f"{' '.join(command)} ended with {status}:\n{messages.strip()[-2000:]}")
        found: Row = json.loads(lines[-1])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    later, end = _machine()
    if end > total:
        own = usage * os.sysconf("SC_CLK_TCK")
        found["others"] = round(max(0.0, 100 * (later - busy - own) / (end - total)), 1)
    return found


def _wait(process: subprocess.Popen[str]) -> tuple[float, int]:
    """(CPU seconds with all descendants, exit status); kills the whole group when we must go or it takes too long."""
    deadline = time.monotonic() + MOST_SECONDS
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return usage.ru_utime + usage.ru_stime, process.returncode
            if time.monotonic() > deadline:
                raise Broken(f"{' '.join(map(str, process.args))} did not end within {MOST_SECONDS} s")  # type: ignore
            time.sleep(0.02)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _machine() -> tuple[int, int]:
    """(busy, all) clock ticks of all cores so far; zeros where the system does not say."""
    try:
        with open("/proc/stat") as file:
            ticks = list(map(int, file.readline().split()[1:9]))
    except OSError:
        return 0, 0
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def interleaved(contenders: Sequence[Contender], rounds: int, folder: Path, report: Report) -> list[Contender]:
    """Measure A B C A B C …, so that what else the machine does hits all alike; returns those that work."""
    working = list(contenders)
    for number in range(rounds):
        for contender in list(working):
            report.progress(f"round {number + 1} of {rounds}: {contender.name}")
            try:
                contender.measured.append(measure(contender.command, folder, contender.path))
            except Broken as error:
                working.remove(contender)
                if contender.name.startswith("runforrest"):
                    raise
                report.warn(f"{contender.name}: {error}")
            else:
                report.raw(contender=contender.name, round=number + 1, **contender.measured[-1])
    return working


# -- what comes out ----------------------------------------------------------------------


class Report:
    """Prints as text, as JSON lines or as markdown."""

    def __init__(self, form: str) -> None:
        self.form = form

    def header(self) -> None:
        self.facts(machine=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
                   python=platform.python_version(), date=time.strftime("%Y-%m-%d"),
                   load=" ".join(f"{x:.2f}" for x in os.getloadavg()))

    def footer(self) -> None:
        self.facts(load_after=" ".join(f"{x:.2f}" for x in os.getloadavg()))

    def facts(self, **facts: object) -> None:
        if self.form == "json":
            self._line(facts=facts)
        else:
            mark = "* " if self.form == "markdown" else ""
            print(f"{mark}" + "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts.items()),
                  flush=True)

    def warn(self, text: str) -> None:
        if self.form == "json":
            self._line(warning=text)
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def raw(self, **measured: object) -> None:
        if self.form == "json":
            self._line(measured=measured)

    def goal(self, text: str, value: float, met: bool, unit: str = "") -> None:
        """A goal and how it went; never a reason to fail."""
        verdict = "met" if met else "missed" if value == value else "not measured"
        if self.form == "json":
            self._line(goal=text, value=value, verdict=verdict)
        else:
            mark = "* " if self.form == "markdown" else "  "
            print(f"{mark}goal: {text}: {_text(value)}{unit}, {verdict}", flush=True)

    def table(self, title: str, rows: Sequence[Row]) -> None:
        self.progress("")
        if self.form == "json":
            for row in rows:
                self._line(table=title, **row)
            return
        columns = list(rows[0]) if rows else []
        cells = [columns, *[[_text(row.get(c)) for c in columns] for row in rows]]
        if self.form == "markdown":
            print(f"\n### {title}\n")
            lines = [f"| {' | '.join(line)} |" for line in cells]
            lines.insert(1, f"| --- |{' ---: |' * (len(columns) - 1)}")
        else:
            print(f"\n{title}")
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            lines = ["  ".join(text.rjust(w) if at else text.ljust(w) for at, (text, w) in
                               enumerate(zip(line, widths, strict=True))).rstrip() for line in cells]
        print("\n".join(lines), flush=True)
        print()

    def _line(self, **what: object) -> None:
        print(json.dumps(what, default=str), flush=True)


def _text(value: object) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def spread(values: Sequence[float]) -> Row:
    """Minimum, median and maximum as cells."""
    if not values:
        return {"min": None, "median": None, "max": None}
    return {"min": float(min(values)), "median": float(statistics.median(values)), "max": float(max(values))}


def positive(text: str) -> int:
    """An argument that counts something."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def counts(text: str) -> list[int]:
    """An argument like 1000,100000."""
    return sorted(positive(part) for part in text.split(","))
