"""The runner's loop: gather events, ask the brain, perform what it says."""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from runforrest.errors import ProcessError
from runforrest.folder import attempts, identity, journal, layout, requests
from runforrest.folder.leases import Membership
from runforrest.folder.settings import ensure_internal
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.window import TodoWindow
from runforrest.model import events as ev
from runforrest.model import outcomes
from runforrest.model.brain import FENCED, Brain
from runforrest.model.limits import Limits
from runforrest.model.names import Name
from runforrest.process.config import Config
from runforrest.process.pool import Message, Pool, Wakeup
from runforrest.runner.forcer import Forcer
from runforrest.runner.keeper import FOLDER_GONE, Keeper
from runforrest.runner.options import Options
from runforrest.runner.preflight import check_first, envelope_of
from runforrest.runner.watchdog import Watchdog

RELIST_SECONDS, RELIST_SHARE = 2.0, 20.0   # look anew this often, but spend at most 1/20 of the time on it
LEAVING_SECONDS = 5.0                      # for the last commits, when the runner's time is over
MOST_RESTARTS = 5                          # fork servers lost before the runner gives up
Finished = Callable[[Name, str, dict[str, Any]], None]


class Runner:
    """One runner on one task list.

    finished  called with (name, state, report) after each publication
    started   called with the name of each task that is started
    say       called with messages for a person
    wanted    chooses the tasks that this runner takes; None for all

    Raises Unloadable if the first tasks of the list can't be loaded by this Python: before anything runs.
    """

    def __init__(self, folder: TaskFolder, options: Options, finished: Finished | None = None,
                 say: Callable[[str], None] | None = None, started: Callable[[Name], None] | None = None,
                 wanted: Callable[[Name], bool] | None = None) -> None:
        check_first(folder)
        self.folder, self.options = folder, options
        self.finished, self.say, self.started = finished, say or (lambda text: None), started
        self.wanted = wanted
        self.membership = Membership(folder)
        self.name = self.membership.runner
        self.keeper = Keeper(self.membership, self.tell)
        self.forcer = Forcer(folder, self.name, self.membership.local, self.tell)
        self.watchdog = Watchdog(self.name, lambda: self.keeper.last_beat, self.keeper.patience, self._cut_off)
        self.until = (None if options.time_left is None
                      else time.monotonic() + options.time_left - options.grace - LEAVING_SECONDS)
        self.brain = Brain(options.nprocesses, options.wait, options.grace, random.random, self.until)
        self.window = TodoWindow(folder.fs, options.nprocesses, self._foreign,
                                 wanted if self.until is None else self._in_time)
        self._too_long: set[int] = set()        # hashes of the ids of tasks for which there is no time any more
        self.journal = journal.Journal(folder.fs, self.name)
        self.reason = ""
        self.wakeup = Wakeup()
        self._events: deque[ev.Event] = deque()
        self._listed_at = self._listing_took = 0.0
        self._restarts = 0
        self._perform: dict[type[ev.Action], Callable[[Any], None]] = {
            ev.Claim: self._claim, ev.Start: self._start, ev.Commit: self._commit, ev.Release: self._release,
            ev.Stop: self._stop, ev.Cancel: self._cancel, ev.Announce: self._announce, ev.Record: self._record,
            ev.Say: self._say, ev.Exit: self._exit}
        self.pool = self._new_pool()

    # -- from other threads and signal handlers --------------------------------------------

    def tell(self, event: ev.Event) -> None:
        """Give the loop an event."""
        self._events.append(event)
        self.wakeup.set()

    # -- the loop --------------------------------------------------------------------------

    def run(self) -> str:
        """Work until the list is done or the runner is told to leave; returns why it left.

        'done', 'drained' (first Ctrl-C), 'released' (second), 'terminated' (SIGTERM), 'stopped' (on request),
        'walltime' (its time is over, or too short for what is left) or 'fenced'.
        Raises ProcessError if the fork server does not start, OSError if the folder can't be reached at all.
        """
        ensure_internal(self.folder.fs)         # guards open their output there
        try:
            self.membership.register(self.pool.start())
            try:
                self.keeper.look()              # what dead runners on this host left comes back first
                self.keeper.look_at_requests()
                self.keeper.start()
                self.watchdog.start()
                if self.folder.settings.force_results:
                    self.forcer.start()
                self._loop()
            finally:
                self.watchdog.close()
                self.pool.close()               # before what may wait for the folder: its tasks end
                self.forcer.close()
                self.keeper.close()
                self._leave()
        finally:
            self.pool.close()
            self.wakeup.close()
        return self.reason

    def _loop(self) -> None:
        self._handle(ev.Tick())
        while not self.reason or self.brain.publishing:
            for slot, message in self.pool.poll(0.0 if self._events else self.brain.wait(time.monotonic())):
                self._events.append(self._event(slot, message))
            if not self._events:
                self._events.append(ev.Tick())
            while self._events and (not self.reason or self.brain.publishing):
                self._handle(self._events.popleft())
            if self.journal.due():
                self.journal.flush()
        for event in self._events:
            self._say_unmoved(event)

    def _say_unmoved(self, event: ev.Event) -> None:
        if isinstance(event, ev.Unmoved):
            self.say(f"{event.move.name} stays in doing/ for the next runner: {event.problem}")

    def _handle(self, event: ev.Event) -> None:
        if isinstance(event, ev.ServerGone):
            self._restart()
            return
        if isinstance(event, ev.Forced):
            self._publish(event.results)
            event = ev.Tick()
        if isinstance(event, ev.GuardDied) and event.reported:
            self.pool.guard_died(event.slot)
        if isinstance(event, ev.Broken):
            raise event.error
        if self.reason:
            self._say_unmoved(event)
        actions = self.brain.handle(event, time.monotonic())
        if len(actions) > 1:                    # first the slot gets its next task, then the last one is published
            actions.sort(key=_rank)
        for action in actions:
            self._perform[type(action)](action)

    def _event(self, slot: int, message: Message) -> ev.Event:
        """What a report of a slot means."""
        if slot < 0:
            return ev.ServerGone()
        if "ready" in message:
            return ev.SlotReady(slot)
        if "guard_died" in message:
            return ev.GuardDied(slot, reported=True)
        if "emptied" in message:                # its child was told to end while it had nothing to do, or hardly
            running = self.brain.slots[slot].name
            return ev.Released(slot, running) if running else ev.Tick()
        name = Name.parse(message.pop("name"))
        assert name is not None
        if "waits" in message:
            return ev.ResultWaits(slot, message["waits"])
        if message.get("gone"):
            return ev.Vanished(slot, name)
        if "fault" in message:
            return ev.SlotFault(slot, name, message["fault"])
        if message.get("released"):
            return ev.Released(slot, name)
        return self._ended(slot, name, message)

    def _ended(self, slot: int, name: Name, report: Message) -> ev.Ended:
        outcome, counts = report["outcome"], report.pop("earlier")
        if outcome == outcomes.RETURNED:
            return ev.Ended(slot, name, outcome, False, 0, report)
        counts[outcome] = counts.get(outcome, 0) + 1
        limits = Limits.from_json(report.get("limits")).or_else(self.options.limits)
        report["limits"] = limits.to_json()
        failures = sum(n for o, n in counts.items() if o != outcomes.RETURNED)
        return ev.Ended(slot, name, outcome, limits.allows_another(outcome, counts), failures, report)

    # -- performing ------------------------------------------------------------------------

    def _claim(self, action: ev.Claim) -> None:
        try:
            mine = self._next_claim()
            others = mine is None and self._others_at_work()
            if mine is None and not others:     # what others gave back between these two looks is in todo/ now
                mine = self._next_claim()
        except OSError as error:
            self._events.append(ev.FolderFault(f"{error.strerror or error}: {error.filename or self.folder.fs.root}",
                                               action.slot))
            return
        if mine is None:
            self._events.append(ev.NothingToClaim(action.slot, others, min(len(self._too_long), self.window.listed)))
        else:
            self._handle(ev.Claimed(action.slot, mine))

    def _next_claim(self) -> Name | None:
        now = time.monotonic()
        fresh = now - self._listed_at < max(RELIST_SECONDS, RELIST_SHARE * self._listing_took)
        if not fresh:
            self.window.forget()
        listed = False
        while True:
            candidate = self.window.pop(self.keeper.crowded)
            if candidate is None:
                if listed:
                    return None
                listed = True
                now = time.monotonic()
                try:
                    self.window.refill()
                except FileNotFoundError:       # todo/ was removed: nothing to do, and not our business to make it
                    if not os.path.isdir(self.folder.fs.root):
                        self._events.append(ev.Fenced(FOLDER_GONE))
                    return None
                self._listed_at = time.monotonic()
                self._listing_took = self._listed_at - now
                continue
            if self.until is not None and not self._time_for(candidate):
                continue
            mine = self.folder.claim(candidate, self.name)
            if mine is not None:
                return mine

    def _in_time(self, name: Name) -> bool:
        return (self.wanted is None or self.wanted(name)) and hash(name.id) not in self._too_long

    def _time_for(self, name: Name) -> bool:
        """Whether an attempt that starts now would end in time, as far as the task says how long it takes."""
        assert self.until is not None
        own = Limits.from_json(envelope_of(self.folder, name).get("limits"))
        needed = own.or_else(self.options.limits).needed
        if needed is None or time.monotonic() + needed <= self.until:
            return True
        self._too_long.add(hash(name.id))       # time only gets shorter
        return False

    def _others_at_work(self) -> bool:
        """Whether other runners hold tasks of interest: they may come back, so it is worth staying."""
        return any(self.wanted is None or self.wanted(name)
                   for runner, names in self.folder.claims().items() if runner != self.name for name in names)

    def _start(self, action: ev.Start) -> None:
        if self.started:
            self.started(action.name)
        self.pool.run(action.slot, f"{layout.DOING}/{self.name}/{action.name}")

    def _commit(self, action: ev.Commit) -> None:
        self.brain.publishing += 1
        if self.folder.settings.force_results:
            self.forcer.add(action)             # and goes on with `_publish` when it is on disk
        else:
            self._publish([(action, "")])

    def _publish(self, results: list[tuple[ev.Commit, str]]) -> None:
        """Move results to where everybody looks for them; with durability ``full``, force that once for all of them."""
        self.brain.publishing -= len(results)
        if self.brain.mode == FENCED:
            return                              # what is fenced moves nothing
        moved = [action for action, problem in results if self._move(action, problem)]
        try:
            self.folder.force_published(*{action.state for action in moved})
        except OSError as error:
            self._events.extend(ev.Unmoved(action, _text(error)) for action in moved)
            return
        for action in moved:
            self._published(action)

    def _move(self, action: ev.Commit, problem: str) -> bool:
        """Whether it is published; if not, what is wrong comes back as an event."""
        try:
            if not problem:
                if self.folder.commit(action.name, self.name, action.state, force=False):
                    return True
                self.say(f"{action.name} was taken over by another runner; this result is not published")
                return False
        except OSError as error:
            problem = _text(error)
        self._events.append(ev.Unmoved(action, problem))
        return False

    def _published(self, action: ev.Commit) -> None:
        self.journal.add(action.name, action.state, action.report)
        if action.name.id in self.brain.cancelled:      # whatever end it came to
            self._met(requests.CANCEL, action.name.id)
        if self.finished:
            self.finished(action.name, action.state, action.report)

    def _release(self, action: ev.Release) -> None:
        try:
            self.folder.release(action.name, self.name)
        except OSError as error:
            self._events.append(ev.Unmoved(action, _text(error)))
            return
        self.window.forget()
        if action.report is not None:
            self.journal.add(action.name, layout.TODO, action.report)

    def _announce(self, action: ev.Announce) -> None:
        name, state = action.name, action.state
        try:
            result = StoredTask.open(self.folder.fs, f"{state}/{name}", name).result() or {}
        except OSError:                         # moved by somebody meanwhile
            return
        self.journal.add(name, state, {k: v for k, v in result.items() if k not in ("traceback", "output")})
        if self.finished and (self.wanted is None or self.wanted(name)):
            self.finished(name, state, result)

    def _stop(self, action: ev.Stop) -> None:
        self.pool.release(action.slot, action.grace)

    def _cancel(self, action: ev.Cancel) -> None:
        self.pool.cancel(action.slot, f"{layout.DOING}/{self.name}/{action.name}")

    def _met(self, what: str, about: str) -> None:
        try:
            requests.withdraw(self.folder.fs, what, about)
        except OSError:
            pass                                # who asked takes it away, or `doctor --repair`

    def _cut_off(self) -> None:
        """No heartbeat for too long: end the tasks now, whatever the loop and the keeper are waiting for."""
        for slot in range(self.options.nprocesses):
            self.pool.release(slot, 0.0)
        self.tell(ev.CutOff(f"the folder could not be reached for {self.keeper.patience:g} s"))
        self.keeper.barked = True               # only now: its answer must come behind

    def _record(self, action: ev.Record) -> None:
        """Write down how an attempt ended that no guard is there for.

        The brain hears of it at once, before the next guard reports that it is ready.
        """
        name, path = action.name, f"{layout.DOING}/{self.name}/{action.name}"
        try:
            task = StoredTask.open(self.folder.fs, path, name)
            record = task.result()              # it may have ended in time
            if record is None:
                record = self.folder.record_end(name, self.name, action.outcome, action.message, task.end)
            else:
                task.attempts.remove(record)
        except (attempts.TakenOver, FileNotFoundError):
            self._handle(ev.Vanished(action.slot, name))
            return
        except OSError as error:
            self._handle(ev.SlotFault(action.slot, name, f"{error.strerror or error}: {path}"))
            return
        self._handle(self._ended(action.slot, name, {
            **record, "earlier": task.counts(), "limits": task.envelope.get("limits") or {}}))

    def _say(self, action: ev.Say) -> None:
        self.say(action.text)

    def _exit(self, action: ev.Exit) -> None:
        self.reason = action.reason

    # -- the processes ---------------------------------------------------------------------

    def _new_pool(self) -> Pool:
        options, folder = self.options, self.folder
        return Pool(Config(folder.fs.root, self.name, identity.hostname(), options.isolation, options.max_tasks,
                           options.limits, folder.settings.force_results, options.path, list(options.preload),
                           options.session, folder.fs.trust), options.nprocesses, self.wakeup)

    def _restart(self) -> None:
        """The fork server was killed, and all guards with it: begin again with a new one."""
        for _ in range(len(self._events)):      # in place: other threads add to it
            event = self._events.popleft()
            if not isinstance(event, (ev.ServerGone, ev.GuardDied)):
                self._events.append(event)
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:
            raise ProcessError(f"the fork server was killed {self._restarts} times; is the machine out of memory?")
        self.say("the fork server was killed; starting another")
        self.pool.close()                       # what it had still to say is in the tasks' files
        pool = self._new_pool()
        pool.start()
        self.pool = pool
        for slot in range(self.options.nprocesses):
            self._handle(ev.GuardDied(slot))

    def _leave(self) -> None:
        """Sign off, merge the journal, and tidy up if nobody else is there."""
        try:
            for slot in range(self.options.nprocesses):
                self.folder.fs.unlink(layout.output_file(self.name, slot))
            if self.folder.settings.force_calls and not self.folder.settings.force_results:
                self.folder.fs.force_all()      # from here on nobody looks whether its results were written
            self.journal.close()
            requests.forget_runner(self.folder.fs, self.name)
            self.membership.leave()
            if not self.membership.peers():
                journal.tidy(self.folder.fs)
        except OSError as error:
            self.say(f"could not sign off properly ({error}); the next runner cleans up")

    def _foreign(self, name: str) -> None:
        self.say(f"todo/{name} is not a task (its name does not end in .pkl, or is too long); it is left alone")


def _text(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename}"


def _rank(action: ev.Action) -> bool:
    return isinstance(action, ev.Commit)
