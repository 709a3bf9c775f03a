"""The forcer: a thread that forces results to disk before they are published, while the slots go on.

A disk takes some milliseconds for that, however much there is to force; so what has come together in
the meantime is forced together.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from runforrest.folder.transitions import TaskFolder
from runforrest.model import events as ev

TOGETHER = 3                       # results from which on the whole filesystem is forced, if it is a local one
LINGER_SECONDS = 0.005              # for more to come together, while they come quickly


class Forcer(threading.Thread):
    """Forces results; tells which of them can be published, and which can't, with what is wrong."""

    def __init__(self, folder: TaskFolder, runner: str, tell: Callable[[ev.Forced], None]) -> None:
        super().__init__(name=f"runforrest-forcer-{runner}", daemon=True)
        self.folder, self.runner, self.tell = folder, runner, tell
        self._queue: queue.SimpleQueue[ev.Commit | None] = queue.SimpleQueue()
        self._failed: set[str] = set()
        self._quickly = False

    def add(self, commit: ev.Commit) -> None:
        self._queue.put(commit)

    def run(self) -> None:
        while batch := self._batch():
            self.tell(ev.Forced([(commit, problem) for commit, problem in zip(batch, self._force(batch), strict=True)]))

    def _batch(self) -> list[ev.Commit]:
        """What has come together; [] to leave."""
        batch: list[ev.Commit] = []
        while not batch or not self._queue.empty():
            commit = self._queue.get()
            if commit is None:
                return []
            if not batch and self._quickly:
                time.sleep(LINGER_SECONDS)
            batch.append(commit)
        self._quickly = len(batch) > 1
        return batch

    def _force(self, batch: list[ev.Commit]) -> list[str]:
        """What is wrong with each of them; '' for those that are safe."""
        if self.folder.local and len(batch) >= TOGETHER and not self._failed:
            try:
                self.folder.fs.force_all()
                return [""] * len(batch)
            except Exception:
                pass                    # one by one: which of them it was
        return [self._force_one(commit) for commit in batch]

    def _force_one(self, commit: ev.Commit) -> str:
        name = str(commit.name)
        try:
            self.folder.force_result(commit.name, self.runner, anew=name in self._failed)
        except Exception as error:
            self._failed.add(name)
            return f"{getattr(error, 'strerror', '') or error}: {name}"
        self._failed.discard(name)
        return ""

    def close(self) -> None:
        """End when what was added before is forced, or given up."""
        self._queue.put(None)
        if self.is_alive():
            self.join()
