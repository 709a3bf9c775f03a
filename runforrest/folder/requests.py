"""What people ask of runners, from any host: a file in ``.runforrest/requests/`` whose name says all.

``pause`` for every runner, now and later, or ``pause@RUNNER``; ``stop@RUNNER`` (finish what runs) and
``stop-now@RUNNER`` (end it and put it back); ``cancel@ID`` for a task, whoever has it.  The feeder of a batch asks
``hold``, while it takes back what waits, as a task has failed.  In the file: who asked, and when.  A request to pause
holds until it is withdrawn, the others until they have been met.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass

from runforrest.folder import identity, layout
from runforrest.folder.attempts import create_internal
from runforrest.folder.fsio import FileOps
from runforrest.folder.settings import now_text

PAUSE, STOP, STOP_NOW, CANCEL, HOLD = "pause", "stop", "stop-now", "cancel", "hold"


@dataclass(frozen=True)
class Asked:
    """All that one runner is asked at present.

    pause, stop  the kind of the request, or ''
    cancel       ids of tasks
    hold         see `runforrest.runner.failfast`
    """

    pause: str = ""
    stop: str = ""
    cancel: frozenset[str] = frozenset()
    hold: bool = False


def look(fs: FileOps, runner: str) -> Asked:
    """What this runner is asked now."""
    found = set(pending(fs))
    stop = next((what for what in (STOP_NOW, STOP) if (what, runner) in found), "")
    pause = PAUSE if {(PAUSE, ""), (PAUSE, runner)} & found else ""
    cancel = frozenset(about for what, about in found if what == CANCEL and about)
    return Asked(pause, stop, cancel, (HOLD, "") in found)


def ask(fs: FileOps, what: str, about: str = "") -> None:
    """Ask ``what`` of a runner, or of a task; asking twice is asking once."""
    text = json.dumps({"by": f"{_user()}@{identity.hostname()}", "at": now_text()}).encode()
    try:
        create_internal(fs, layout.REQUESTS, _entry(what, about), [text])
    except FileExistsError:
        pass


def withdraw(fs: FileOps, what: str, about: str = "") -> bool:
    """Take a request back, or away when it has been met; False if there was none."""
    if (what, about) not in pending(fs):
        return False
    fs.unlink(path(what, about))
    return True


def forget_runner(fs: FileOps, runner: str) -> None:
    """A runner has left: what it was asked is met."""
    for what, about in pending(fs):
        if about == runner:
            fs.unlink(path(what, about))


def paused(fs: FileOps) -> list[str]:
    """Who is asked to pause: '' stands for everybody."""
    return sorted(about for what, about in pending(fs) if what == PAUSE)


def who(fs: FileOps, what: str, about: str = "") -> str:
    """Who asked and when, as text; '' if that can't be told."""
    try:
        found = json.loads(fs.read(path(what, about)))
        return f"{found['by']} at {found['at']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def pending(fs: FileOps) -> list[tuple[str, str]]:
    """All that is asked at present: what, and of which runner or of which task; '' for everybody."""
    parts = (entry.partition("@") for entry in fs.entries(layout.REQUESTS))
    return [(what, about) for what, at, about in parts if bool(at) == bool(about)]


def path(what: str, about: str = "") -> str:
    """The file of a request."""
    return f"{layout.REQUESTS}/{_entry(what, about)}"


def _entry(what: str, about: str) -> str:
    return f"{what}@{about}" if about else what


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "?"
