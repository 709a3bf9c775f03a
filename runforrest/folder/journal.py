"""What happened, one line per ended attempt: first in the runner's own file, then in ``history.jsonl``.

Hints for people and for `status`; nothing depends on them.
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from typing import Any

from runforrest.folder import identity, layout, locking
from runforrest.folder.attempts import create_internal
from runforrest.folder.fsio import FileOps
from runforrest.model.names import Name

FLUSH_SECONDS, FLUSH_LINES = 1.0, 256
LOCK_SECONDS = 5.0


class Journal:
    """One runner's lines, written in batches."""

    def __init__(self, fs: FileOps, runner: str) -> None:
        self.fs, self.runner = fs, runner
        self._lines: list[bytes] = []
        self._since = 0.0
        self._made = False

    def add(self, name: Name, state: str, report: dict[str, Any]) -> None:
        """A line for an attempt that ended, and the state that its task is in now.

        report  what is known of it; as ``line`` the JSON that it came as, if there is that
        """
        if not self._lines:
            self._since = time.monotonic()
        line = report.get("line") or json.dumps(report, separators=(",", ":"), default=str).encode()
        head = json.dumps({"task": name.id, "state": state}, separators=(",", ":")).encode()
        self._lines.append((head[:-1] + b"," + line[1:] if len(line) > 2 else head) + b"\n")

    def due(self) -> bool:
        return len(self._lines) >= FLUSH_LINES or (
            bool(self._lines) and time.monotonic() - self._since > FLUSH_SECONDS)

    def flush(self) -> None:
        """Write what has come together; a disk in trouble costs lines here, never a task."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        path = f"{layout.JOURNAL}/{self.runner}.jsonl"
        try:
            if self._made:
                self.fs.append(path, [b"".join(lines)])
            else:
                create_internal(self.fs, layout.JOURNAL, f"{self.runner}.jsonl", [b"".join(lines)])
                self._made = True
        except OSError:
            pass

    def close(self) -> None:
        self.flush()
        merge_journal(self.fs, self.runner)


def merge_journal(fs: FileOps, runner: str) -> None:
    """Move a runner's lines to the end of ``history.jsonl``."""
    path = f"{layout.JOURNAL}/{runner}.jsonl"
    try:
        with locked(fs) as got:
            if not got or not fs.exists(path):
                return
            try:
                fs.append(layout.HISTORY, fs.read_chunks(path))
            except FileNotFoundError:
                fs.create(layout.HISTORY, fs.read_chunks(path))
            fs.unlink(path)
    except OSError:
        pass


def tidy(fs: FileOps) -> None:
    """Remove ``doing/`` and the internal folders as far as they are empty: the last runner has left.

    On GlusterFS those that all runners need stay, as it may spoil a folder that two make at the same moment.
    """
    with locked(fs) as got:
        if got:
            gated = (*layout.GATED, layout.WAITING) if fs.exists(layout.WAITING) else ()
            needed = (*layout.INTERNALS, layout.INTERNAL, layout.DOING)
            stays = identity.filesystem_type(fs.root) == identity.GLUSTERFS
            for name in gated if stays else (*gated, *needed):
                try:
                    fs.rmdir(name)
                except OSError:
                    pass


def locked(fs: FileOps) -> AbstractContextManager[bool]:
    """Best-effort mutual exclusion on this list; False if it could not be had.  Never needed for a task's safety."""
    return locking.locked(fs, layout.LOCK, LOCK_SECONDS)
