# ruff: noqa: UP006, UP035, UP045
"""One of the two hands that try a filesystem out, as a program of its own.

It reads requests from standard input and answers on standard output, one line of JSON each.  It may be
started on any host by piping it into Python, so it needs nothing but Python 3.6 and imports nothing of ours.
All that it writes lies in one folder that the first hand makes, and removes when its input ends.
"""

import errno
import fcntl
import json
import os
import socket
import stat
import sys
import time
import zlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
PARTS = ("race", "won", "tmp", "first", "last", "speed", "moved")
SEEN = ("names", "gone", "grow", "hb")         # one set for each hand: who writes in a folder sees it fresh
BLOCK = 1 << 16                    # bytes of a file that is published, before its end is appended
TAIL = 4096
OLD = b"old" * 10                  # what a growing file begins with
SPIN = 0.001                       # seconds before a moment that are not slept, to meet it exactly
TIDY_SECONDS = 30.0


class Hand:
    """Every public method is a request; its arguments and its result are JSON.  Times are this host's monotonic."""

    def __init__(self) -> None:
        self.root = ""
        self.made = False
        self.locks = []            # type: List[int]

    # -- who and where -------------------------------------------------------------------

    def clocks(self) -> List[float]:
        return [time.monotonic(), time.time()]

    def facts(self, directory: str) -> Dict[str, Any]:
        """What can be told of a folder and this host without writing anything."""
        room = os.statvfs(directory)
        block = room.f_frsize or room.f_bsize
        return {"host": socket.gethostname(), "boot": _read("/proc/sys/kernel/random/boot_id"), "pid": os.getpid(),
                "uid": os.geteuid(), "python": ".".join(map(str, sys.version_info[:3])), "platform": sys.platform,
                "directory": os.path.realpath(directory), "mount": mount_of(directory),
                "bytes_free": room.f_bavail * block, "bytes": room.f_blocks * block,
                "files_free": room.f_favail if room.f_files else None,
                "read_only": bool(room.f_flag & getattr(os, "ST_RDONLY", 1)),
                "folders": list(_with_parents(os.path.realpath(directory))),
                "start_times": bool(_read("/proc/self/stat")), "pidfd": hasattr(os, "pidfd_open")}

    def make(self, directory: str, name: str) -> Dict[str, Any]:
        """Make the folder for everything that follows, and see whose it is and what time it is there."""
        root = os.path.join(directory, name)
        os.mkdir(root, 0o700)
        self.root, self.made = root, True
        for part in PARTS:
            os.mkdir(self.at(part), 0o700)
        before = time.time()
        write_new(self.at("tmp/mine"), b"x")
        info = os.stat(self.at("tmp/mine"))
        return {"uid": info.st_uid, "mtime_offset": info.st_mtime - before}

    def find(self, directory: str, name: str, wait: float) -> bool:
        """Whether the folder that the other hand has made is here, too; asked seldom, for caches keep a 'no'."""
        end, pause = time.monotonic() + wait, 0.1
        self.root = os.path.join(directory, name)
        while True:
            if name in os.listdir(directory) or exists(self.root):
                return True
            if time.monotonic() + pause > end:
                return False
            time.sleep(pause)
            pause *= 2

    def at(self, name: str) -> str:
        return self.root + "/" + name

    # -- races ---------------------------------------------------------------------------

    def fill(self, folder: str, names: List[str]) -> None:
        """Files that hold their own names."""
        for name in names:
            write_new(self.at(folder + "/" + name), name.encode())

    def look(self, folders: List[str]) -> int:
        """List folders and look at what is in them, as a runner does before it claims; how many names there are."""
        count = 0
        for folder in folders:
            for name in os.listdir(self.at(folder)):
                exists(self.at(folder + "/" + name))
                count += 1
        return count

    def rename(self, tries: List[Tuple[str, float]], to: str) -> List[Tuple[float, float, str]]:
        """Rename ``race/<name>`` to ``won/<name><to>``, each at its moment: (begun, ended, error) for each."""
        return [timed(at, os.rename, self.at("race/" + name), self.at("won/" + name + to)) for name, at in tries]

    def create(self, tries: List[Tuple[str, float]], to: str) -> List[Tuple[float, float, str]]:
        """Create ``won/<name>`` exclusively, each at its moment."""
        return [timed(at, write_new, self.at("won/" + name), to.encode()) for name, at in tries]

    def symlink(self, tries: List[Tuple[str, float]], to: str) -> List[Tuple[float, float, str]]:
        """Make the symbolic link ``won/<name>``, with a text of this hand's own, each at its moment."""
        return [timed(at, os.symlink, to, self.at("won/" + name)) for name, at in tries]

    def held(self, folder: str, names: List[str], to: str) -> List[str]:
        """What is under each name: '' nothing, 'it' the file that was raced for, 'other' anything else."""
        return [content(self.at(folder + "/" + name + to), name) for name in names]

    def lock(self) -> bool:
        """Take a lock on a file, without waiting; it is kept until this program ends."""
        fd = os.open(self.at("tmp/lock"), os.O_RDWR | os.O_CREAT, 0o600)
        self.locks.append(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    # -- reading what another writes -----------------------------------------------------

    def publish(self, start: int, count: int, gap: float) -> int:
        """Files as the protocol makes them: written in tmp/, renamed, appended to, renamed again."""
        for number in range(start, start + count):
            name, block = f"{number}.task", block_of(number)
            write_new(self.at("tmp/" + name), block)
            os.rename(self.at("tmp/" + name), self.at("first/" + name))
            time.sleep(gap)
            append(self.at("first/" + name), tail_of(number))
            os.rename(self.at("first/" + name), self.at("last/" + name))
        write_new(self.at(f"tmp/end{start}"), b"")
        return count

    def read(self, start: int, count: int, seconds: float) -> Dict[str, int]:
        """Read the files that another hand publishes: how many were whole, and how many not.

        As they are listed, and in the end the rest by name, for a listing may be old.
        """
        seen = {"whole": 0, "torn": 0, "late": 0, "gone": 0}
        end, left = time.monotonic() + seconds, {f"{n}.task" for n in range(start, start + count)}
        while time.monotonic() < end and left and not os.path.exists(self.at(f"tmp/end{start}")):
            for folder in ("first", "last"):
                for name in left.intersection(os.listdir(self.at(folder))):
                    seen[self._read_one(folder, name)] += 1
                    if folder == "last":
                        left.discard(name)
            time.sleep(0.002)
        for name in left:
            kind = self._read_one("last", name)
            if kind != "gone":             # else it has not come that far yet
                seen[kind] += 1
        return seen

    def _read_one(self, folder: str, name: str) -> str:
        try:
            with open(self.at(folder + "/" + name), "rb") as file:
                data = file.read()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return "gone"
            raise
        number = int(name.split(".")[0])
        rest = data[BLOCK:]
        if data[:BLOCK] != block_of(number) or not tail_of(number).startswith(rest):
            return "torn"
        return "late" if folder == "last" and len(rest) < TAIL else "whole"

    # -- how long it takes until it is seen ------------------------------------------------

    def prepare(self, who: str, rounds: int) -> None:
        """All that this hand will change, for as many rounds."""
        os.mkdir(self.at(who), 0o700)
        for part in SEEN:
            os.mkdir(self.at(f"{who}/{part}"), 0o700)
        write_new(self.at(f"{who}/hb/R@0"), b"")
        for number in range(rounds):
            write_new(self.at(f"{who}/gone/{number}"), b"")
            write_new(self.at(f"{who}/grow/{number}"), OLD)

    def prime(self, who: str, number: int) -> None:
        """Look at everything that the other hand is about to change, so that caches have it."""
        for part in SEEN:
            os.listdir(self.at(f"{who}/{part}"))
        self._length(who, number)

    def change(self, who: str, number: int) -> Dict[str, float]:
        """Change one thing of each kind: when each change was done."""
        return {"new": after(write_new, self.at(f"{who}/names/{number}"), b""),
                "gone": after(os.unlink, self.at(f"{who}/gone/{number}")),
                "append": after(append, self.at(f"{who}/grow/{number}"), b"new"),
                "beat": after(os.rename, self.at(f"{who}/hb/R@{number}"), self.at(f"{who}/hb/R@{number + 1}"))}

    def watch(self, who: str, number: int, seconds: float) -> Dict[str, Optional[float]]:
        """When each change of the other hand was seen first; None if not within so many seconds."""
        looks = {"new": lambda: str(number) in os.listdir(self.at(f"{who}/names")),
                 "gone": lambda: str(number) not in os.listdir(self.at(f"{who}/gone")),
                 "append": lambda: self._length(who, number) > len(OLD),
                 "beat": lambda: f"R@{number + 1}" in os.listdir(self.at(f"{who}/hb"))
                 }                 # type: Dict[str, Callable[[], bool]]
        seen = dict.fromkeys(looks)    # type: Dict[str, Optional[float]]
        end, pause = time.monotonic() + seconds, 0.0005
        while True:
            for kind, look in looks.items():
                if seen[kind] is None and look():
                    seen[kind] = time.monotonic()
            if time.monotonic() > end or None not in seen.values():
                return seen
            time.sleep(pause)
            pause = min(0.1, pause * 1.2)

    def _length(self, who: str, number: int) -> int:
        try:
            with open(self.at(f"{who}/grow/{number}"), "rb") as file:
                return len(file.read())
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return 0
            raise

    # -- speed ---------------------------------------------------------------------------

    def speed(self, seconds: float) -> Dict[str, List[float]]:
        """Seconds of each call, by operation; each operation is tried for at most so long."""
        files = [self.at(f"speed/{n}") for n in range(1000)]
        found = {"create": spent(seconds, [(write_new, f, b"x" * 200) for f in files])}
        files = files[:len(found["create"])]
        found["list"] = spent(seconds, [(os.listdir, self.at("speed"))] * 10)
        found["append"] = spent(seconds, [(append, f, b"x" * 200) for f in files[:200]])
        found["rename"] = spent(seconds, [(os.rename, f, f.replace("/speed/", "/moved/")) for f in files[:200]])
        moved = [f.replace("/speed/", "/moved/") for f in files[:len(found["rename"])]]
        found["fsync"] = [force(f) for f in moved[:20]]
        found["fsync folder"] = spent(seconds, [(force, self.at("moved"))] * 10)
        found["unlink"] = spent(seconds, [(os.unlink, f) for f in moved])
        return found

    def syncfs(self) -> float:
        """Seconds that it takes to force all of this filesystem, as scheduling in bulk does."""
        import ctypes
        fd = os.open(self.root, os.O_RDONLY)
        try:
            begun = time.monotonic()
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            return time.monotonic() - begun
        finally:
            os.close(fd)

    # -- the end -------------------------------------------------------------------------

    def leave(self) -> None:
        """Remove what the two have made; the other hand may still be about to finish, so more than once."""
        end = time.monotonic() + TIDY_SECONDS
        for fd in self.locks:
            os.close(fd)
        self.locks = []
        while self.made and exists(self.root) and time.monotonic() < end:
            remove_tree(self.root)
            if exists(self.root):
                time.sleep(0.1)
        self.made = False


# -- operations as the protocol does them --------------------------------------------------


def write_new(path: str, data: bytes) -> None:
    _fill(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o600), data)


def append(path: str, data: bytes) -> None:
    _fill(os.open(path, os.O_WRONLY | os.O_APPEND | NOFOLLOW), data)


def _fill(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data):]
    finally:
        os.close(fd)


def force(path: str) -> float:
    """Append a little to a file, or nothing to a folder, and force it: seconds that the forcing took."""
    folder = os.path.isdir(path)
    fd = os.open(path, os.O_RDONLY if folder else os.O_WRONLY | os.O_APPEND)
    try:
        if not folder:
            os.write(fd, b"x" * 200)
        begun = time.monotonic()
        os.fsync(fd)
        return time.monotonic() - begun
    finally:
        os.close(fd)


def exists(path: str) -> bool:
    """Opening the folder first makes an NFS client ask its server."""
    try:
        os.close(os.open(os.path.dirname(path), os.O_RDONLY))
        os.lstat(path)
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            return False
        raise


def content(path: str, wanted: str) -> str:
    if not exists(path):
        return ""
    try:
        with open(path, "rb") as file:
            return "it" if file.read() == wanted.encode() else "other"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):     # what exists() saw was a cache
            return ""
        raise


# -- measuring -----------------------------------------------------------------------------


def timed(at: float, do: Callable[..., Any], *args: Any) -> Tuple[float, float, str]:
    """Do something at a moment: when it began, when it ended, and the name of the error, '' for none."""
    rest = at - time.monotonic()
    if rest > SPIN:
        time.sleep(rest - SPIN)
    while time.monotonic() < at:
        pass
    begun, said = time.monotonic(), ""
    try:
        do(*args)
    except OSError as error:
        said = name_of(error)
    return begun, time.monotonic(), said


def after(do: Callable[..., Any], *args: Any) -> float:
    do(*args)
    return time.monotonic()


def spent(seconds: float, calls: List[Tuple[Any, ...]]) -> List[float]:
    """How long each call took; those that come after so many seconds are left out."""
    times = []                     # type: List[float]
    end = time.monotonic() + seconds
    for call in calls:
        begun = time.monotonic()
        if begun > end:
            break
        call[0](*call[1:])
        times.append(time.monotonic() - begun)
    return times


def block_of(number: int) -> bytes:
    """The contents of a file that is published: each differs from the others in every part."""
    word = b"%08x" % zlib.crc32(b"%d" % number)
    return word * (BLOCK // len(word))


def tail_of(number: int) -> bytes:
    return (b"%08X" % zlib.crc32(b"%d" % number)) * (TAIL // 8)


def name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


# -- the system ----------------------------------------------------------------------------


def mount_of(directory: str) -> Dict[str, str]:
    """The mount that a folder is on: point, type, source and options; {} where it can't be told."""
    real, best = os.path.realpath(directory), {}         # type: str, Dict[str, str]
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        point = fields[4].encode("latin-1", "replace").decode("unicode_escape")     # \040 is a space
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best.get("point", "")):
            best = {"point": point, "type": rest[0], "source": rest[1], "options": fields[5] + "," + rest[2]}
    return best


def _with_parents(directory: str) -> Iterator[List[Any]]:
    """(path, owner, group, mode) of a folder and of all above it."""
    while True:
        info = os.stat(directory)
        yield [directory, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)]
        above = os.path.dirname(directory)
        if above == directory:
            return
        directory = above


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def remove_tree(root: str) -> None:
    """Remove a folder with all in it, as far as it goes."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            _quietly(os.unlink, os.path.join(folder, name))
        for name in folders:
            _quietly(os.rmdir, os.path.join(folder, name))
    _quietly(os.rmdir, root)


def _quietly(do: Callable[[str], None], path: str) -> None:
    try:
        do(path)
    except OSError:
        pass


def main() -> None:
    hand = Hand()
    try:
        for line in iter(sys.stdin.readline, ""):
            request = json.loads(line)
            try:
                answer = {"value": getattr(hand, request["do"])(**request["with"])}     # type: Dict[str, Any]
            except OSError as error:
                answer = {"error": name_of(error), "text": str(error)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    finally:
        hand.leave()


if __name__ == "__main__":
    main()
