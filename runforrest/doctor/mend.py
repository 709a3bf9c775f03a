"""Carrying out a plan, as a runner without slots: with a heartbeat, and only by the protocol's own moves.

Everything may be interrupted and done again.  Before a file is touched it is looked at once more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from types import TracebackType

from runforrest.doctor.repair import DAY, SEEN_SECONDS, Finding
from runforrest.doctor.survey import ALIVE, Copy, Peer, look_at
from runforrest.errors import InvalidArgument, TaskListInUse
from runforrest.folder import journal, layout, settings
from runforrest.folder.attempts import TakenOver, new_tag
from runforrest.folder.fsio import FileOps
from runforrest.folder.gates import Gates
from runforrest.folder.leases import DEAD, ORPHAN, Membership
from runforrest.folder.settings import Settings
from runforrest.folder.signing import key_from
from runforrest.folder.transitions import TaskFolder
from runforrest.model import outcomes

STILL_SECONDS = 2.0                # a file that somebody is copying changes within this time


class Mender:
    """Mends what a plan says; a context, at work between enter and exit.

    found_at  when the list was read, `time.monotonic`
    """

    def __init__(self, fs: FileOps, current: Settings, found_at: float) -> None:
        self.fs, self.found_at = fs, found_at
        self.folder = TaskFolder(fs, current)
        self.membership = Membership(self.folder)
        self._drained: list[str] = []
        self._beaten = 0.0

    def __enter__(self) -> Mender:
        settings.ensure_internal(self.fs)
        self.membership.register()
        self._beaten = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.membership.leave()
        if not self.membership.peers():
            journal.tidy(self.fs)

    def mend(self, finding: Finding) -> str:
        """Do it; returns '' if it was done, else why not."""
        time.sleep(max(0.0, self.found_at + STILL_SECONDS - time.monotonic()))
        if time.monotonic() - self._beaten > self.folder.settings.beat:
            self._beat()
        try:
            return str(getattr(self, finding.action)(finding))
        except OSError as error:
            return error.strerror or str(error)

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        if not self.membership.beat():
            raise TaskListInUse("others have declared this process lost; look again, with --repair",
                                directory=self.fs.root, runners=[])

    # -- the list itself -----------------------------------------------------------------

    def make_folder(self, finding: Finding) -> str:
        try:
            self.fs.mkdir(finding.where.rstrip("/"))
        except FileExistsError:
            pass
        return ""

    def complete(self, finding: Finding) -> str:
        settings.create(self.fs, key=key_from(None))
        return ""

    def new_settings(self, finding: Finding) -> str:
        self.fs.rename(layout.SETTINGS, f"{layout.DUP}/{layout.SETTINGS}.{new_tag()}")
        return self.complete(finding)

    # -- runners -------------------------------------------------------------------------

    def take_back(self, finding: Finding) -> str:
        self._drained += self.membership.recover()
        return "" if self._is_gone(finding) else "some of it could not be moved; look again"

    def watch(self, finding: Finding) -> str:
        """Observe until it moves, or for the lease, counted as runners count it."""
        assert finding.peer
        for _ in range(self.folder.settings.lease + 2):
            if self._is_gone(finding):
                return ""
            number = self.membership.peers().get(finding.peer.name)
            if number not in (finding.peer.number, DEAD, None):
                return "it is at work"
            time.sleep(self.folder.settings.beat)
            self._beat()
            self._drained += self.membership.watch()
        return "" if self._is_gone(finding) else "some of it could not be moved; look again"

    def force(self, finding: Finding) -> str:
        peer = finding.peer
        assert peer
        if peer.number not in (DEAD, ORPHAN) and not self.membership.fence(peer.name, peer.number):
            return "its heartbeat has moved: it is at work"
        return "" if self.membership.drain(peer.name) else "some of it could not be moved; look again"

    def _is_gone(self, finding: Finding) -> bool:
        assert finding.peer
        return finding.peer.name in self._drained or finding.peer.name not in self.membership.peers()

    # -- tasks ---------------------------------------------------------------------------

    def aside(self, finding: Finding) -> str:
        copy, because = finding.copy, finding.because
        assert copy and because
        if not self._unchanged(copy):
            return "it has changed meanwhile"
        if not self._unchanged(because):
            return f"{because.path} has changed meanwhile"
        kept = f"{layout.DUP}/{copy.state}.{copy.name}.{new_tag()}"
        return "" if self.folder.move(copy.path, kept) else "it is gone"

    def fail(self, finding: Finding) -> str:
        """Claim it as a runner does, and end the attempt as unloadable."""
        copy = finding.copy
        assert copy
        if not self._unchanged(copy):
            return "it has changed meanwhile"
        mine = copy.name.claimed(new_tag())
        if not self.folder.move(copy.path, f"{layout.DOING}/{self.membership.runner}/{mine}"):
            return "it is gone"
        try:
            self.folder.record_end(mine, self.membership.runner, outcomes.UNLOADABLE, f"the task's file is damaged: "
                                   f"{finding.what} (found by `runforrest doctor --repair`)")
            self.folder.force_result(mine, self.membership.runner)
        except TakenOver:
            return "others have taken it"
        if not self.folder.commit(mine, self.membership.runner, layout.FAIL):
            return "others have taken it"
        Gates(self.folder).ended((mine.id, layout.FAIL))
        return ""

    def requeue(self, finding: Finding) -> str:
        copy = finding.copy
        assert copy
        if not self._unchanged(copy):
            return "it has changed meanwhile"
        return "" if self.folder.requeue(copy.name, copy.state) else "it is gone"

    def end(self, finding: Finding) -> str:
        """Tasks that wait for what is nowhere in the list."""
        gates, gate = Gates(self.folder), finding.where.rpartition("/")[2]
        missing = gates.waiting.hopeless().get(gate)
        if missing is None:
            return "what they wait for is there, or nothing waits"
        names = [name for each, name in gates.waiting.tasks() if each == gate]
        gates.end(gate, names, outcomes.DEPENDENCY_FAILED,
                  f"not run, as {missing}, which it waited for, is not in the list any more")
        gates.ended()
        return ""

    def _unchanged(self, copy: Copy) -> bool:
        """Whether the file is as it was when the plan was made."""
        try:
            return look_at(self.fs, copy.state, copy.name, copy.runner) == copy
        except OSError:
            return False

    # -- leftovers -----------------------------------------------------------------------

    def remove(self, finding: Finding) -> str:
        return self._remove_old(finding.where, DAY)

    def forget(self, finding: Finding) -> str:
        """Remove a request that nobody can meet any more."""
        if finding.because and not self._unchanged(finding.because):
            return f"{finding.because.path} has changed meanwhile"
        if finding.where.rpartition("@")[2] in self.membership.peers():
            return "the runner is there"
        return self._remove_old(finding.where, SEEN_SECONDS)

    def _remove_old(self, path: str, seconds: float) -> str:
        """Its age counts by the file server's clock: that of the heartbeat that was just made."""
        now = os.stat(self.fs.path(f"{layout.HB}/{self.membership.runner}@{self.membership.beats}")).st_ctime
        if now - os.stat(self.fs.path(path)).st_mtime < seconds:
            return "by the file server's clock it is too new"
        self.fs.unlink(path)
        return ""


def check_force(peers: Sequence[Peer], names: Sequence[str]) -> None:
    """Refuse to declare dead who is at work here, or is not known."""
    states = {peer.name: peer.state for peer in peers}
    for name in names:
        if name not in states:
            raise InvalidArgument(f"there is no runner {name}; `runforrest status` names them")
        if states[name] == ALIVE:
            raise InvalidArgument(f"runner {name} is alive on this host: stop it, and nothing has to be forced")
