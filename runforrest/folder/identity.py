"""Who a process is, so that others can tell for sure whether it still lives.

A pid alone is reused; a pid with its start time, on this boot of this machine, in this pid
namespace, is one process.  What can't be proven here is left to the lease.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

_OCTAL = re.compile(rb"\\([0-7]{3})")         # how mountinfo writes spaces
#: filesystems that only one machine mounts: who wrote here before the last boot is dead
LOCAL_TYPES = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "ramfs", "overlay", "f2fs", "jfs",
                         "apfs", "hfs"))
GLUSTERFS = "fuse.glusterfs"


def hostname() -> str:
    """This host's name, as it may stand in a file name."""
    name = socket.gethostname().split(".")[0]
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:40] or "host"


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil  # where there is no /proc; it takes 10 ms
        return f"boot-{psutil.boot_time():.0f}"


def pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When this process started, in the system's own ticks; None if it is gone or a zombie."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    import psutil
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def identity(*others: int, local: bool = False) -> dict[str, Any]:
    """What a heartbeat says of this process, and of others that belong to it (their pids).

    local   whether the folder is on a filesystem of this machine alone
    """
    return {"host": socket.gethostname(), "boot": boot_id(), "pid_namespace": pid_namespace(), "local": local,
            "pid": os.getpid(), "processes": [[pid, start_time(pid)] for pid in (os.getpid(), *others)]}


def verdict(found: dict[str, Any], local: bool) -> str:
    """What this host can prove of another process: ``alive``, ``ending``, ``dead`` or ``unknown``.

    found   its identity
    local   whether the folder is on a filesystem of this machine alone
    ``ending``: the process is gone, others that belong to it are not yet.

    Another boot proves a death only where both have the folder on a filesystem of their machine alone, which
    makes it one machine: on a file server the folder is local as well, and its clients are alive.
    """
    if found.get("boot") != boot_id():
        return "dead" if local and found.get("local") is True and found.get("boot") else "unknown"
    if found.get("host") != socket.gethostname() or found.get("pid_namespace") != pid_namespace():
        return "unknown"        # another host name: a clone of a machine at work, which keeps its boot id
    alive = []
    for entry in found.get("processes") or []:
        try:
            pid, started = entry
        except (TypeError, ValueError):
            return "unknown"
        alive.append(started is not None and start_time(pid) == started)
    if not alive:
        return "unknown"
    return "alive" if alive[0] else "ending" if any(alive) else "dead"


def is_local(directory: str) -> bool:
    """Whether the folder is on a filesystem that no other machine mounts, as far as can be told."""
    return filesystem_type(directory) in LOCAL_TYPES


def filesystem_type(directory: str) -> str:
    """``ext4``, ``nfs4``, ``fuse.sshfs``…; '' if it can't be told."""
    real = os.path.realpath(directory)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", "rb") as lines:
            for line in lines:
                fields, _, rest = line.partition(b" - ")
                point = os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), fields.split()[4]))
                if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
                    best, kind = point, rest.split()[0].decode()
    except OSError:
        import psutil
        for part in psutil.disk_partitions(all=True):
            if real.startswith(part.mountpoint) and len(part.mountpoint) >= len(best):
                best, kind = part.mountpoint, part.fstype
    return kind
