"""What the system gives for keeping processes together: subreaper, death signals, the tree, memory.

Linux has all of it.  Elsewhere (macOS) the process group and psutil's children are the best there is.
Loaded in every child.
"""

from __future__ import annotations

import os
import signal
import sys

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

if LINUX:
    import ctypes
    _libc = ctypes.CDLL(None)
    _prctl = _libc.prctl
    _prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    _fflush = _libc.fflush
    _fflush.argtypes = [ctypes.c_void_p]

    def become_subreaper() -> None:
        """Orphaned descendants become children of this process, not of init."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_parent(parent: int, signum: int) -> None:
        """Have the system send this signal when the parent dies; at once if it is dead already."""
        _prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signum)

    def flush_c_streams() -> None:
        """What C code has printed and not yet written."""
        _fflush(None)

    def children(pid: int) -> list[int]:
        found: list[int] = []
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", "rb", 0) as file:
                    found += map(int, file.read().split())
        except OSError:
            pass
        return found

    def memory_of(pids: list[int]) -> int:
        """Bytes that these processes hold: the first whole, of the others what they don't share."""
        total = 0
        for place, pid in enumerate(pids):
            try:
                with open(f"/proc/{pid}/statm", "rb", 0) as file:
                    fields = file.read().split()
                total += int(fields[1]) - (int(fields[2]) if place else 0)
            except (OSError, IndexError, ValueError):
                continue
        return total * PAGE_SIZE

    def oom_counter() -> str:
        """The file in which the kernel counts what it has killed for memory: in this process's control group, in which
        its children are, too, or else on the whole machine.
        """
        try:
            with open("/proc/self/cgroup") as file:
                groups = [line.rstrip("\n").split(":", 2) for line in file]
        except OSError:
            groups = []
        for _, controllers, group in groups:
            place = f"/memory{group}/memory.oom_control" if controllers == "memory" else f"{group}/memory.events"
            if controllers in ("", "memory") and oom_kills(f"/sys/fs/cgroup{place}") >= 0:
                return f"/sys/fs/cgroup{place}"
        return "/proc/vmstat"

    def oom_kills(counter: str) -> int:
        """How many processes it has killed there so far; -1 if that file does not say."""
        try:
            with open(counter, "rb", 0) as file:
                for line in file.read().split(b"\n"):
                    if line.startswith(b"oom_kill "):
                        return int(line.split()[1])
        except (OSError, ValueError):
            pass
        return -1
else:
    def become_subreaper() -> None:
        pass

    def die_with_parent(parent: int, signum: int) -> None:
        pass

    def flush_c_streams() -> None:
        pass

    def children(pid: int) -> list[int]:
        import psutil
        try:
            return [p.pid for p in psutil.Process(pid).children()]
        except psutil.Error:
            return []

    def memory_of(pids: list[int]) -> int:
        import psutil
        total = 0
        for pid in pids:
            try:
                total += psutil.Process(pid).memory_info().rss
            except psutil.Error:
                continue
        return total

    def oom_counter() -> str:
        return ""

    def oom_kills(counter: str) -> int:
        return -1


def descendants(pid: int) -> list[int]:
    """All processes below this one, zombies too, parents before their children."""
    found = children(pid)
    for each in found:              # grows while it is walked
        found += children(each)
    return found


def send(pid: int, signum: int, group: bool = False) -> None:
    """Signal a process, or the group that it leads; gone is gone."""
    try:
        (os.killpg if group else os.kill)(pid, signum)
    except (ProcessLookupError, PermissionError):
        pass


def terminate_tree(leader: int) -> None:
    """Ask a task to end: TERM to its group and to everything below this process; what is stopped goes on."""
    everybody = descendants(os.getpid())
    for signum in (signal.SIGTERM, signal.SIGCONT):
        send(leader, signum, group=True)
        for pid in everybody:
            send(pid, signum)


def kill_tree(leader: int | None = None) -> None:
    """KILL everything below this process.

    Each process is stopped before its children are listed, so what forks faster than it can be killed
    stands still by then; this is repeated until nobody new is found, and then all are killed.
    """
    if leader is not None:
        send(leader, signal.SIGKILL, group=True)
    known: set[int] = set()
    while True:
        before = len(known)
        queue = [os.getpid()]
        for pid in queue:           # grows while it is walked
            if pid != queue[0] and pid not in known:
                known.add(pid)
                send(pid, signal.SIGSTOP)
            queue += children(pid)
        if len(known) == before:
            break
    for pid in known:
        send(pid, signal.SIGKILL)
