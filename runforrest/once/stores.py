"""Which store is used, and asking it again while it is in trouble."""

from __future__ import annotations

import configparser
import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from runforrest.errors import InvalidArgument
from runforrest.once.errors import KeyStoreError, RetryTimeoutError
from runforrest.once.log import log
from runforrest.once.model import KeyStore, Unreachable

T = TypeVar("T")
Where = KeyStore | str | os.PathLike[str] | None

VARIABLE = "RUNFORREST_KEYS"
CONFIG = ".run_once.ini"
DEFAULT_FOLDER = "runforrest-keys"
PORT = 22113
PATIENCE = 100.0                   # seconds, as run-once's 20 times 5
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
#: trouble of a file server or a disk that may pass
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED, errno.EAGAIN,
           errno.EBUSY, errno.EINTR, errno.ENOSPC, errno.EDQUOT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOENT)
SERVERS = ("redis:", "rediss:", "valkey:", "valkeys:", "unix:")     # also where a slash was forgotten: no folder
HELP = (f"set {VARIABLE} to a folder on a filesystem that all processes share, or to the address of a Redis server, as "
        f"redis://host:{PORT}/0")

_open: dict[tuple[int, str, bool, bool], KeyStore] = {}


def store(where: Where = None) -> KeyStore:
    """The store at this path or URL, opened once per process.

    None: RUNFORREST_KEYS; else what ``~/.run_once.ini`` says; else the folder ``runforrest-keys`` in the current one.
    Raises KeyStoreError, UntrustedFolder, InvalidArgument.
    """
    if where == "" or not (isinstance(where, (str, os.PathLike, type(None))) or hasattr(where, "claim_any")):
        raise InvalidArgument(f"store must be a path, a URL or what open_store returns, not {where!r:.60}",
                              argument="store")
    if where is not None and not isinstance(where, (str, os.PathLike)):
        return where
    address = os.fspath(where) if where is not None else default()
    if not _scheme(address):
        address = os.path.abspath(os.path.expanduser(address))
    if where is None and not os.environ.get(VARIABLE) and not _is_open(address):
        log.info("keys are in %s; %s to have them elsewhere", address, HELP)
    return opened(address)


def opened(address: str, trust: bool = False, group: bool = False) -> KeyStore:
    """What `open_store` gives for these, once per process."""
    key = (os.getpid(), address, trust, group)      # a child that was forked must not use its parent's connection
    found = _open.get(key)
    if found is None:
        found = _open[key] = open_store(address, trust, group)
    return found


def _is_open(address: str) -> bool:
    return (os.getpid(), address, False, False) in _open


def settled(where: Where) -> Where:
    """The same, whatever becomes the current folder: for keys that are reported later."""
    if not isinstance(where, (str, os.PathLike, type(None))):
        return where
    text = default() if where is None else os.fspath(where)
    if where is None and (_scheme(text) or os.path.isabs(os.path.expanduser(text))):
        return None                 # in another process it is what holds there
    return text if _scheme(text) else os.path.abspath(os.path.expanduser(text))


def open_store(address: str | os.PathLike[str], trust: bool = False, group: bool = False) -> KeyStore:
    """Open the store at a path or URL.

    trust   use a folder that other users may write to; unpickle values from a server without a password
    group   the folder is for the members of its group
    Raises KeyStoreError, UntrustedFolder.
    """
    text = os.fspath(address)
    scheme = _scheme(text)
    if scheme:
        from runforrest.once.redisstore import SCHEMES, RedisStore
        if scheme not in SCHEMES:
            raise KeyStoreError(f"{text!r} is neither a folder nor the address of a Redis server: {HELP}", store=text)
        return RedisStore(text, trust)
    from runforrest.once.folder import FolderStore
    try:
        return FolderStore(os.path.expanduser(text), trust, group)
    except OSError as error:
        if isinstance(error, KeyStoreError) or error.errno is None:     # an error of ours
            raise
        raise KeyStoreError(f"keys can't be kept in {text}: {error.strerror}; {HELP}", store=text) from error


def default() -> str:
    """The path or URL that holds where none is given."""
    return os.environ.get(VARIABLE) or from_config(config_file()) or DEFAULT_FOLDER


def config_file() -> Path:
    """Where it is; of a user without a home, as in a container, there is none."""
    return Path(os.path.expanduser(f"~/{CONFIG}"))


def from_config(file: Path, host: str | None = None, port: int | None = None) -> str:
    """The URL that run-once's configuration file stands for: address, port, and also a password, of [DEFAULT].

    host, port  in place of what stands there.  '' if there is no such file, and neither is given.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if not parser.read(file) and host is None and port is None:
            return ""
    except (configparser.Error, UnicodeDecodeError) as error:
        raise KeyStoreError(f"{file} can't be read ({' '.join(str(error).split())}); it should have [DEFAULT], address "
                            f"and port", store=str(file)) from None
    found = parser["DEFAULT"]
    named = {"address": "127.0.0.1", "port": str(PORT), "password": "", **found}
    there, number = host or named["address"], port or named["port"]
    if "/" in there or not str(number).isdecimal():
        raise KeyStoreError(f"address must be a host, and port a number, not {there!r} and {number!r}; what is not "
                            f"given stands in {file}", store=str(file))
    return address(there, number, named["password"])


def address(host: str, port: int | str, password: str = "") -> str:
    from urllib.parse import quote
    secret = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{secret}{place(host, port)}/0"


def place(host: str, port: int | str) -> str:
    """As it stands in URLs."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _scheme(text: str) -> str:
    return text.partition(":")[0].lower() if "://" in text or text.startswith(SERVERS) else ""


def patiently(call: Callable[[], T], what: str, patience: float | None = None) -> T:
    """Call it again while the store is in trouble.

    Raises RetryTimeoutError after ``patience`` seconds, and at once what does not pass by itself.
    """
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    pause = FIRST_PAUSE
    while True:
        try:
            return call()
        except (OSError, Unreachable) as error:
            if isinstance(error, OSError) and error.errno not in PASSING:
                raise
            if time.monotonic() + pause > deadline:
                raise RetryTimeoutError(f"{what}: the store of keys can't be reached: {error}", store="") from error
            log.warning("%s: %s; trying again", what, error)
        time.sleep(pause * random.uniform(0.5, 1.0))       # thousands must not come back at the same moment
        pause = min(LONGEST_PAUSE, pause * 2)
