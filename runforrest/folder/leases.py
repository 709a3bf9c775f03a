"""Runners among each other: heartbeats, the death of a runner, and taking back what it held.

A heartbeat is a number in a file name, raised by rename; declaring a runner dead is a rename of the
very number that was observed, so it fails if the runner has beaten since.  No two clocks are compared:
a lease is counted in the observer's own successful beats.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from contextlib import suppress
from typing import Any

from runforrest.folder import frames, identity, layout, requests, settings, tokens
from runforrest.folder.attempts import NOT_APPENDABLE, create_internal, force_record, new_tag, side_file
from runforrest.folder.fsio import FileOps
from runforrest.folder.journal import merge_journal
from runforrest.folder.stored import ATTEMPT, StoredTask, side_records
from runforrest.folder.transitions import TaskFolder
from runforrest.model import outcomes
from runforrest.model.limits import Limits
from runforrest.model.names import Name

DEAD = "dead"
ORPHAN = "none"                    # a folder in doing/ without a heartbeat
CLAIMS = "claims"                  # in a heartbeat: false, if this one claims nothing from todo/
ENDING_SECONDS, ENDING_STEP = 10.0, 0.01   # patience with the guards of a dead runner on this host
DRAIN_ROUNDS = 100


class Membership:
    """One runner's place among the runners of a list.

    claims  whether it claims tasks from ``todo/``; who only adds some, say, does not
    """

    def __init__(self, folder: TaskFolder, runner: str | None = None, claims: bool = True) -> None:
        self.folder, self.fs, self.claims = folder, folder.fs, claims
        self.runner = runner or f"{identity.hostname()}.{os.getpid()}.{new_tag()}"
        self.beats = 0
        self.settled: deque[tuple[Name, str]] = deque()     # tasks that a drain has moved to done/ or fail/
        self.beating: frozenset[str] = frozenset()          # runners that were seen to beat, of late
        self._seen: dict[str, tuple[str, int]] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        self._ending: dict[str, float] = {}

    # -- its own life --------------------------------------------------------------------

    def register(self, *others: int) -> None:
        """Announce this runner: first its folder, then its heartbeat.  ``others``: pids that belong to it.

        Raises OSError; then it takes back what it can, since half an announcement would pass for a runner at work.
        """
        found = identity.identity(*others, local=self.folder.local)
        text = json.dumps(found if self.claims else {**found, CLAIMS: False}).encode()
        try:
            try:
                self._announce(text)
            except FileNotFoundError:       # the last runner has just tidied up
                settings.ensure_internal(self.fs)
                self._announce(text)
        except OSError:
            with suppress(OSError):
                self.leave()
            raise

    def _announce(self, text: bytes) -> None:
        """Both names are this runner's alone: one that exists is a call of ours whose reply was lost."""
        try:
            self.fs.mkdir(f"{layout.DOING}/{self.runner}")
        except FileExistsError:
            pass
        heartbeat, force = f"{layout.HB}/{self.runner}@{self.beats}", self.folder.settings.force_calls
        try:
            self.fs.create(heartbeat, [text], force)
        except FileExistsError:
            self.fs.unlink(heartbeat)
            self.fs.create(heartbeat, [text], force)

    def beat(self) -> bool:
        """Raise the number.  False: this runner has been declared dead and must stop.

        Raises OSError if the folder can't be reached, which says nothing about the lease yet.
        """
        old, new = (f"{layout.HB}/{self.runner}@{n}" for n in (self.beats, self.beats + 1))
        try:
            self.fs.rename(old, new)
        except OSError as error:
            if not self.fs.exists(new):
                if not isinstance(error, FileNotFoundError):
                    raise
                earlier = self._own_beats()
                if earlier is None:
                    if self._is_declared_dead():
                        return False
                    raise
                self.fs.rename(f"{layout.HB}/{self.runner}@{earlier}", new)  # a server that lost its last seconds
        self.beats += 1
        return True

    def _own_beats(self) -> int | None:
        for entry in self.fs.entries(layout.HB):
            runner, _, number = entry.rpartition("@")
            if runner == self.runner and number.isdecimal() and int(number) <= self.beats:
                return int(number)
        return None

    def _is_declared_dead(self) -> bool:
        """A heartbeat that is not seen proves nothing: a server with a part of it down hides files.

        Who declares this runner dead leaves a sign of it until its folder is removed; afterwards, all may be gone.
        """
        sign, home = f"{layout.HB}/{self.runner}@{DEAD}", f"{layout.DOING}/{self.runner}"
        return self.fs.exists(sign) or not self.fs.exists(home)

    def leave(self) -> None:
        """Sign off: the folder first, then the heartbeat; what is left there the others take back."""
        try:
            self.fs.rmdir(f"{layout.DOING}/{self.runner}")
        except FileNotFoundError:
            pass
        except OSError:
            return
        self.fs.unlink(f"{layout.HB}/{self.runner}@{self.beats}")

    # -- the others ----------------------------------------------------------------------

    def watch(self, beaten: bool = True) -> list[str]:
        """One round of observation: take back the tasks of runners that are gone.

        beaten  an own beat has come before it, so it counts for the lease
        Returns the names of runners that were drained.
        """
        beats = self.peers()
        self._seen = {r: seen for r, seen in self._seen.items() if r in beats}
        self._ending = {r: since for r, since in self._ending.items() if r in beats}
        self._identities = {r: found for r, found in self._identities.items() if r in beats}
        drained = []
        self._note_beating(beats)
        for runner, number in beats.items():
            last, rounds = self._seen.get(runner, (None, 0))
            rounds = rounds + beaten if last == number else 0
            self._seen[runner] = (number, rounds)
            gone = number == DEAD or self._proven_dead(runner, number) or rounds >= self.folder.settings.lease
            try:
                if gone and (number in (DEAD, ORPHAN) or self.fence(runner, number)) and self.drain(runner):
                    drained.append(runner)
            except OSError:         # what is wrong with one runner's folder must not keep the others' tasks
                continue
        return drained

    def _note_beating(self, beats: dict[str, str]) -> None:
        """Who has beaten since the last look, or had at that one, is at work; of who is new nothing is known yet."""
        now = {runner for runner, number in beats.items() if runner in self._seen and self._seen[runner][0] != number}
        before = {runner for runner in self.beating if self._seen.get(runner, ("", 1))[1] == 0 and runner in beats}
        self.beating = frozenset(now | before)

    def recover(self, seconds: float = math.inf) -> list[str]:
        """`watch`, and wait, so long at most, for guards of dead runners on this host, which are ending their tasks."""
        drained = self.watch()
        deadline = time.monotonic() + seconds
        while self._ending and time.monotonic() < deadline:
            time.sleep(ENDING_STEP)
            drained += self.watch(beaten=False)
        return drained

    def forget_counts(self) -> None:
        """After a time in which this runner could not reach the folder: what it saw proves nothing."""
        self._seen.clear()

    def peers(self) -> dict[str, str]:
        """The other runners with their heartbeat numbers; 'none' for a folder without a heartbeat."""
        beats = {}
        for entry in self.fs.entries(layout.HB):
            runner, at, number = entry.rpartition("@")
            if at and runner != self.runner:
                beats[runner] = number
        for runner in self.fs.entries(layout.DOING):
            if runner != self.runner and os.path.isdir(self.fs.path(f"{layout.DOING}/{runner}")):
                beats.setdefault(runner, ORPHAN)
        return beats

    def is_crowded(self) -> bool:
        """Whether others claim here, too, as far as is known of them since the last `watch`."""
        return any(self._identities.get(runner, {}).get(CLAIMS, True) for runner in self.peers())

    def alive(self) -> list[str]:
        """Other runners that are not proven dead."""
        return [r for r, number in self.peers().items()
                if number != DEAD and not self._proven_dead(r, number)]

    def _proven_dead(self, runner: str, number: str) -> bool:
        found = self._identity(runner, number)
        if not found:
            return False
        verdict = identity.verdict(found, self.folder.local)
        if verdict == "ending":            # its guards are about to end what it left
            since = self._ending.setdefault(runner, time.monotonic())
            if time.monotonic() - since < ENDING_SECONDS:
                return False
        self._ending.pop(runner, None)
        return verdict in ("dead", "ending")

    def _identity(self, runner: str, number: str) -> dict[str, Any]:
        found = self._identities.get(runner) or read_heartbeat(self.fs, runner, number)[0]
        if found:
            self._identities[runner] = found
        return found

    def fence(self, runner: str, number: str) -> bool:
        """Declare a runner dead, if it has not beaten since this number was observed."""
        dead = f"{layout.HB}/{runner}@{DEAD}"
        try:
            self.fs.rename(f"{layout.HB}/{runner}@{number}", dead)
        except OSError:
            return self.fs.exists(dead)
        return True

    # -- taking back ---------------------------------------------------------------------

    def drain(self, runner: str) -> bool:
        """Take back everything a dead runner held; False if it could not be finished now.

        Only when its folder could be removed can no late claim of it land there any more.
        """
        home, before = f"{layout.DOING}/{runner}", None
        for _ in range(DRAIN_ROUNDS):
            try:
                entries = self.fs.listdir(home)
            except FileNotFoundError:
                break
            if entries == before:       # nothing moves: a foreign file, `.nfs…`; the next watch looks again
                return False
            before = entries
            for entry in entries:
                name = Name.parse(entry)
                if name is not None:
                    self._take_back(runner, home, name)
            try:
                self.fs.rmdir(home)
                break
            except FileNotFoundError:
                break
            except OSError:
                continue
        else:
            return False
        if not self.folder.settings.force_results and self._lost_its_power(runner):
            self._take_back_unwritten(runner)
        self.folder.force_published(layout.DONE, layout.FAIL)
        self._clear(runner)
        tokens.give_back_all(self.fs, runner)
        requests.forget_runner(self.fs, runner)
        self.fs.unlink(f"{layout.HB}/{runner}@{DEAD}")
        return True

    def _lost_its_power(self, runner: str) -> bool:
        """Whether this machine has been started anew since that runner wrote."""
        found = self._identity(runner, DEAD)
        return self.folder.local and found.get("boot") not in (None, identity.boot_id())

    def _take_back_unwritten(self, runner: str) -> None:
        """Tasks whose move survived a power cut, and whose result, which nobody had forced, did not."""
        for state in (layout.DONE, layout.FAIL):
            for name in self.folder.names(state):
                path = f"{state}/{name}"
                if name.tries and not self._intact(path, name) and not self._was_given_up(path, name):
                    self._take_back(runner, state, name)

    def _was_given_up(self, path: str, name: Name) -> bool:
        """Whether it is known how its last try ended: it was lost, and that is what is on record beside it."""
        try:
            return (StoredTask.open(self.fs, path, name, history=False).result() or {}).get("outcome") == outcomes.LOST
        except OSError:
            return False

    def _take_back(self, runner: str, home: str, name: Name) -> None:
        try:
            destination = self._destination(runner, f"{home}/{name}", name)
            if self.folder.move(f"{home}/{name}", destination):
                self.fs.unlink_twin(f"{home}/{name}", destination)
                state, _, file = destination.partition("/")
                moved = Name.parse(file)
                if state != layout.TODO and moved is not None:
                    self.settled.append((moved, state))
        except OSError:
            pass        # its owner published it, or another took it back; the next listing tells

    def _destination(self, runner: str, path: str, name: Name) -> str:
        """Where a task of a dead runner belongs; leaves a record of the loss if its attempt did not end."""
        if not name.tries:
            return f"{layout.TODO}/{name}"          # it was just being published through that folder
        try:
            task = StoredTask.open(self.fs, path, name)
        except OSError as error:
            if error.errno not in NOT_APPENDABLE:
                raise
            task = StoredTask(name, [], 0)          # a link, a folder, not readable
            task.add_side_records(self.fs)
        intact = self._intact(path, name)
        record = task.result() if intact else None
        if record and self.folder.settings.force_results:       # its runner may have died before it was forced
            force_record(self.fs, intact)
        if record and record.get("outcome") == outcomes.RETURNED:
            return f"{layout.DONE}/{name}"
        limits = Limits.from_json(task.envelope.get("limits"))
        counts = task.counts()
        outcome = str(record.get("outcome")) if record else outcomes.LOST
        if record is None:
            earlier = sum(a.get("outcome") == outcomes.LOST and a.get("attempt") != name.attempt for a in task.attempts)
            counts[outcomes.LOST] = max(name.lost, earlier) + 1     # the file may have been given another name
            self._record_loss(runner, name)
        again = limits.allows_another(outcome, counts)
        if record and not again:
            return f"{layout.FAIL}/{name}"
        return f"{layout.TODO if again else layout.FAIL}/{name.taken()}"

    def _intact(self, path: str, name: Name) -> str:
        """The file in which the frame of exactly this try is complete, its payload too: a power cut may have torn it;
        '' if it is in none.
        """
        for place in (path, side_file(name)):
            try:
                fd = self.fs.open_read(place)
            except OSError:
                continue
            try:
                if any(f.record.get("attempt") == name.attempt and f.payload(fd) is not None
                       for f in frames.backwards(fd)):
                    return place
            except IsADirectoryError:
                continue
            finally:
                os.close(fd)
        return ""

    def _record_loss(self, runner: str, name: Name) -> None:
        found = self._identities.get(runner, {})
        record = {"frame": ATTEMPT, "attempt": name.attempt, "number": name.tries, "outcome": outcomes.LOST,
                  "runner": runner, "host": found.get("host", runner.split(".")[0]), "reclaimed_by": self.runner,
                  "ended": settings.now_text(),
                  "message": f"runner {runner} died while it held this task"}
        file = f"{name.id}.{name.attempt}.lost"
        try:
            create_internal(self.fs, layout.TRIES, file, frames.encode(record))
        except FileExistsError:     # by another who takes this back, too; or by one who died while writing it
            if not any(found.get("attempt") == name.attempt for found in side_records(self.fs, name, history=False)):
                self.fs.unlink(f"{layout.TRIES}/{file}")
                create_internal(self.fs, layout.TRIES, file, frames.encode(record))

    def _clear(self, runner: str) -> None:
        """Remove the dead runner's output files, and keep its journal."""
        for name in self.fs.entries(layout.TMP):
            if name.startswith(runner + "."):
                self.fs.unlink(f"{layout.TMP}/{name}")
        merge_journal(self.fs, runner)


def read_heartbeat(fs: FileOps, runner: str, number: str) -> tuple[dict[str, Any], float]:
    """What the heartbeat of a runner that `peers` has shown says of it, and when it was last raised, by the file
    server's clock; ({}, 0.0) if there is none, or it can't be read.

    It may have been raised since it was seen.
    """
    following = str(int(number) + 1) if number.isdecimal() else number
    for each in () if number == ORPHAN else (number, following):
        path = f"{layout.HB}/{runner}@{each}"
        try:
            found = json.loads(fs.read(path))
            return (found if isinstance(found, dict) else {}), os.stat(fs.path(path)).st_ctime
        except (OSError, ValueError, RecursionError):
            continue
    return {}, 0.0
