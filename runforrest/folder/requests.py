"""What people ask of runners, from any host: a file in ``.runforrest/requests/`` whose name says all.

``pause`` for every runner, now and later, or ``pause@RUNNER``; ``stop@RUNNER`` (finish what runs) and
``stop-now@RUNNER`` (end it and put it back); ``cancel@ID`` for a task, whoever has it.  In the file: who
asked, and when.  A request to pause holds until it is withdrawn, the others until they have been met.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass

from runforrest.folder import identity, layout
from runforrest.folder.attempts import create_internal
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import now_text

PAUSE, STOP, STOP_NOW, CANCEL = "pause", "stop", "stop-now", "cancel"


@dataclass(frozen=True)
class Asked:
    """All that one runner is asked at present.

    pause, stop  the kind of the request, or ''
    cancel       ids of tasks
    """

    pause: str = ""
    stop: str = ""
    cancel: frozenset[str] = frozenset()


def look(fs: FileOps, runner: str) -> Asked:
    """What this runner is asked now."""
    found = set(_listed(fs))
    stop = next((what for what in (STOP_NOW, STOP) if f"{what}@{runner}" in found), "")
    pause = PAUSE if {PAUSE, f"{PAUSE}@{runner}"} & found else ""
    ids = (entry.partition("@")[2] for entry in found if entry.startswith(CANCEL + "@"))
    return Asked(pause, stop, frozenset(filter(None, ids)))


def ask(fs: FileOps, what: str, about: str = "") -> None:
    """Ask ``what`` of a runner, or of a task; asking twice is asking once."""
    text = json.dumps({"by": f"{_user()}@{identity.hostname()}", "at": now_text()}).encode()
    try:
        create_internal(fs, layout.REQUESTS, _entry(what, about), [text])
    except FileExistsError:
        pass


def withdraw(fs: FileOps, what: str, about: str = "") -> bool:
    """Take a request back, or away when it has been met; False if there was none."""
    if _entry(what, about) not in _listed(fs):
        return False
    fs.unlink(f"{layout.REQUESTS}/{_entry(what, about)}")
    return True


def forget_runner(fs: FileOps, runner: str) -> None:
    """A runner has left: what it was asked is met."""
    for entry in _listed(fs):
        if entry.partition("@")[2] == runner:
            fs.unlink(f"{layout.REQUESTS}/{entry}")


def paused(fs: FileOps) -> list[str]:
    """Who is asked to pause: '' stands for everybody."""
    return sorted(entry.partition("@")[2] for entry in _listed(fs) if entry.partition("@")[0] == PAUSE)


def who(fs: FileOps, what: str, about: str = "") -> str:
    """Who asked and when, as text; '' if that can't be told."""
    try:
        found = json.loads(fs.read(f"{layout.REQUESTS}/{_entry(what, about)}"))
        return f"{found['by']} at {found['at']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _entry(what: str, about: str) -> str:
    return f"{what}@{about}" if about else what


def _listed(fs: FileOps) -> list[str]:
    try:
        return fs.listdir(layout.REQUESTS)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "?"
