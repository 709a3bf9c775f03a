"""The runner's loop: gather events, ask the brain, perform what it says."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from runforrest.errors import ProcessError
from runforrest.folder import attempts, identity, journal, layout, requests
from runforrest.folder.cancelling import withdraw_met
from runforrest.folder.leases import Membership
from runforrest.folder.settings import ensure_internal
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model import events as ev
from runforrest.model.brain import FENCED, Brain
from runforrest.model.names import Name
from runforrest.model.resources import Budget
from runforrest.process.config import Config
from runforrest.process.pool import Pool
from runforrest.process.wakeup import Wakeup
from runforrest.runner.capacity import capacity_of, gpu_environment, shares_of, uneven
from runforrest.runner.claims import Claims
from runforrest.runner.entrance import Entrance
from runforrest.runner.failfast import FailFast
from runforrest.runner.forcer import Forcer
from runforrest.runner.keeper import Keeper
from runforrest.runner.options import Options
from runforrest.runner.preflight import check_first
from runforrest.runner.release import Releaser
from runforrest.runner.reports import ended, event_of
from runforrest.runner.watchdog import Watchdog

LEAVING_SECONDS = 5.0                      # for the last commits, when the runner's time is over
MOST_RESTARTS = 5                          # fork servers lost before the runner gives up
SERVICES = 1                               # slots more for what serves the list and is no work of its own
Finished = Callable[[Name, str, dict[str, Any]], None]


class Runner:
    """One runner on one task list.

    finished  called with (name, state, report) after each publication
    started   called with the name of each task that is started
    say       called with messages for a person
    wanted    chooses the tasks that this runner takes; None for all
    """

    def __init__(self, folder: TaskFolder, options: Options, finished: Finished | None = None,
                 say: Callable[[str], None] | None = None, started: Callable[[Name], None] | None = None,
                 wanted: Callable[[Name], bool] | None = None) -> None:
        self.folder, self.options = folder, options
        self.finished, self.say, self.started = finished, say or (lambda text: None), started
        self.wanted = wanted
        self.membership = Membership(folder)
        self.name = self.membership.runner
        self.releaser = Releaser(folder, self.tell, wanted)
        self.keeper = Keeper(self.membership, self.tell, self.releaser.look)
        self.forcer = Forcer(folder, self.name, self.tell)
        self.watchdog = Watchdog(self.name, lambda: self.keeper.last_beat, self.keeper.patience, self._cut_off)
        until = (None if options.time_left is None
                 else time.monotonic() + options.time_left - options.grace - LEAVING_SECONDS)
        self.shares = shares_of(options)
        services = SERVICES * folder.fs.exists(layout.BATCH)
        self.slots = len(self.shares) + services
        budget = Budget(capacity_of(options, len(self.shares)))
        self.brain = Brain(len(self.shares), options.wait, options.grace, random.random, until, budget,
                           options.most_tasks, services)
        self.claims = Claims(folder, self.name, options, budget, self._foreign, wanted, until)
        self.fail_fast = FailFast(folder.fs)
        self.journal = journal.Journal(folder.fs, self.name)
        self.reason = ""
        self.wakeup = Wakeup()
        self._events: deque[ev.Event] = deque()
        self._restarts = 0
        self._perform: dict[type[ev.Action], Callable[[Any], None]] = {
            ev.Claim: self._claim, ev.Start: self._start, ev.Commit: self._commit, ev.Release: self._release,
            ev.Stop: self._stop, ev.Cancel: self._cancel, ev.Announce: self._announce, ev.Record: self._record,
            ev.GiveUp: self._give_up, ev.Say: self._say, ev.Exit: self._exit}
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
        'walltime' (its time is over, or too short for what is left), 'stuck' (what is left waits for tasks that are
        gone) or 'fenced'.
        Raises Unloadable if the first tasks of the list can't be loaded by this Python: before anything runs;
        ProcessError if the fork server does not start; OSError if the folder is read-only, forbidden or not there.
        """
        self.folder.fs.awaited = True
        for text in uneven(self.options):
            self.say(text)
        try:
            entered = self._enter()
            try:
                if entered:
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
                self.releaser.close(self.brain.mode == FENCED or self.reason == "fenced")
                self._leave()
        finally:
            self.folder.fs.awaited = False
            self.pool.close()
            self.wakeup.close()
        return self.reason

    def _enter(self) -> bool:
        """Sign on; False if it has to leave before that is possible."""
        fs = self.folder.fs
        entrance = Entrance(fs, self._handle, self._events, self.wakeup, lambda: bool(self.reason))
        return (entrance.done(partial(check_first, self.folder))
                and entrance.done(partial(ensure_internal, fs))         # guards open their output there
                and entrance.done(partial(self._sign_on, self.pool.start())))

    def _sign_on(self, server: int) -> None:
        self.membership.register(server)
        try:
            self.keeper.look()                  # what dead runners on this host left comes back first
            self.keeper.look_at_requests()
        except OSError:
            with suppress(OSError):
                self.membership.leave()         # as it does not beat while it waits
            raise

    def _loop(self) -> None:
        self._handle(ev.Tick())
        while not self.reason:
            for slot, message in self.pool.poll(0.0 if self._events else self.brain.wait(time.monotonic())):
                running = self.brain.slots[slot].name if slot >= 0 else None
                self._events.append(event_of(slot, message, running, self.options.limits))
            if not self._events:
                self._events.append(ev.Tick())
            while self._events and not self.reason:
                self._handle(self._events.popleft())
            if self.journal.due() or self.brain.rests() or self.fail_fast.urgent:
                self.journal.flush()

    def _handle(self, event: ev.Event) -> None:
        if isinstance(event, ev.ServerGone):
            self._restart()
            return
        if isinstance(event, ev.Forced):
            event = self._publish(event.results)
        if isinstance(event, ev.GuardDied) and event.reported:
            self.pool.guard_died(event.slot)
        if isinstance(event, ev.Broken):
            raise event.error
        if isinstance(event, ev.Ended) and event.failed and not self.brain.slots[event.slot].service:
            self.fail_fast.note()
        actions = self.brain.handle(event, time.monotonic())
        if self.claims.tokens:
            self.claims.give_back({slot.name.id for slot in self.brain.slots if slot.name})
        if len(actions) > 1:                    # first the slot gets its next task, then the last one is published
            actions.sort(key=_rank)
        for action in actions:
            self._perform[type(action)](action)

    # -- performing ------------------------------------------------------------------------

    def _claim(self, action: ev.Claim) -> None:
        try:
            if action.service:
                self._claim_service(action.slot)
                return
            if self.fail_fast.holds(self.keeper.asked.hold):
                self._events.append(ev.NothingToClaim(action.slot, True))
                return
            mine = self.claims.next(self.keeper.crowded)
            dry = mine is None and self._leaves_them_alone()
            others = mine is None and not dry and self.claims.of_others()
            if mine is None and not others:     # what others gave back between these two looks is in todo/ now
                mine = self.claims.next(self.keeper.crowded)
            waits, stuck = (False, "") if mine or others else self._outlook()
        except OSError as error:
            self._events.append(ev.FolderFault(f"{error.strerror or error}: {error.filename or self.folder.fs.root}",
                                               action.slot))
            return
        if mine is not None:
            self._handle(ev.Claimed(action.slot, *mine, self._is_cancelled(mine[0])))
            return
        self._events.append(ev.NothingToClaim(action.slot, others or waits, self.claims.too_long, self.claims.unfit,
                                              stuck, dry))

    def _leaves_them_alone(self) -> bool:
        """Whether this runner leaves while others are at work; in a batch, not before all lines were read.

        Not while one of them may be dead, as its tasks come back; nor for one that has nothing but a service, which may
        be on its way to this one.
        """
        if not self.options.leave_when_dry:
            return False
        fs = self.folder.fs
        if fs.exists(layout.BATCH) and not fs.exists(layout.FED):
            return False
        held = {runner: names for runner, names in self.folder.claims().items() if names and runner != self.name}
        return held.keys() <= self.membership.beating and any(
            not self.claims.is_service(runner, name) for runner, names in held.items() for name in names)

    def _claim_service(self, slot: int) -> None:
        mine = self.claims.next(False, service=True)
        if mine is not None:
            self._handle(ev.Claimed(slot, *mine, self._is_cancelled(mine[0])))
        else:
            others = self.claims.of_others() and not self._leaves_them_alone()
            self._events.append(ev.NoService(slot, others))

    def _is_cancelled(self, name: Name) -> bool:
        """Asked at the last look, and still now: the task may have ended since, and been put back by a person."""
        try:
            return name.id in self.brain.cancelled and self.folder.fs.exists(requests.path(requests.CANCEL, name.id))
        except OSError:
            return True

    def _outlook(self) -> tuple[bool, str]:
        """Whether waiting tasks are worth staying for, or why they never will be."""
        if self.claims.too_long or self.claims.unfit:
            return False, ""
        return self.releaser.outlook(not (self.brain.held or self.brain.publishing
                                          or any(slot.name for slot in self.brain.slots)))

    def _start(self, action: ev.Start) -> None:
        if self.started:
            self.started(action.name)
        grant = action.grant
        self.pool.run(action.slot, f"{layout.DOING}/{self.name}/{action.name}", grant.cpus,
                      gpu_environment(grant.gpus) if grant.gpus else None)

    def _commit(self, action: ev.Commit) -> None:
        if self.folder.settings.force_results:
            self.forcer.add(action)             # and goes on with `_publish` when it is on disk
        else:
            self._events.append(self._publish([(action, "")]))

    def _publish(self, results: list[tuple[ev.Commit, str]]) -> ev.Published:
        """Move results to where everybody looks for them; with durability ``full``, force that once for all of them.

        What could not be published comes back as an event of its own.
        """
        if self.brain.mode == FENCED:
            return ev.Published([])             # what is fenced moves nothing
        moved = [action for action, problem in results if self._move(action, problem)]
        try:
            self.folder.force_published(*{action.state for action in moved})
        except OSError as error:
            self._events.extend(ev.Unmoved(action, _text(error)) for action in moved)
            return ev.Published([])
        for action in moved:
            self._published(action)
        return ev.Published([action.name.id for action in moved])

    def _move(self, action: ev.Commit, problem: str) -> bool:
        try:
            if not problem:
                if self.folder.commit(action.name, self.name, action.state, force=False):
                    return True
                self._events.append(ev.Overtaken(action.name))
                return False
        except OSError as error:
            problem = _text(error)
        self._events.append(ev.Unmoved(action, problem))
        return False

    def _published(self, action: ev.Commit) -> None:
        self.journal.add(action.name, action.state, action.report)
        self.releaser.note(action.name, action.state)
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
        self.claims.forget()
        if action.name.demanding:               # a service may have been ended in the middle of publishing
            self.folder.publish_rest(self.name)
        if action.report is not None:
            self.journal.add(action.name, layout.TODO, action.report)

    def _announce(self, action: ev.Announce) -> None:
        name, state = action.name, action.state
        self.releaser.note(name, state)
        try:
            result = StoredTask.open(self.folder.fs, f"{state}/{name}", name, history=False).result() or {}
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
        """No heartbeat for too long: end the tasks now, whatever the loop and the keeper are waiting for.

        A result that is there already is kept: if another runner has taken its task by then, it can't be published.
        """
        for slot in range(self.slots):
            self.pool.cut_off(slot)
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
        self._handle(ended(action.slot, name, {
            **record, "earlier": task.counts(), "limits": task.envelope.get("limits") or {}}, self.options.limits))

    def _give_up(self, action: ev.GiveUp) -> None:
        try:
            record = self.folder.record_unreadable(action.name, self.name, action.message)
        except OSError as error:
            self._handle(ev.SlotFault(action.slot, action.name, f"{error.strerror or error}: {action.name}"))
            return
        self._handle(ended(action.slot, action.name, {**record, "earlier": {}}, self.options.limits))

    def _say(self, action: ev.Say) -> None:
        self.say(action.text)

    def _exit(self, action: ev.Exit) -> None:
        self.reason = action.reason

    # -- the processes ---------------------------------------------------------------------

    def _new_pool(self) -> Pool:
        options, folder = self.options, self.folder
        return Pool(Config(folder.fs.root, self.name, identity.hostname(), options.isolation, options.max_tasks,
                           options.limits, options.path, list(options.preload),
                           options.session, folder.fs.trust,
                           [(list(share.cpus), dict(share.env)) for share in self.shares]), self.slots, self.wakeup)

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
        for slot in range(self.slots):
            self._handle(ev.GuardDied(slot))

    def _leave(self) -> None:
        """Sign off, merge the journal, and tidy up if nobody else is there."""
        if not self.folder.fs.is_there():
            return
        try:
            for slot in range(self.slots):
                for kind in (layout.LOG, layout.ERRORS_LOG):
                    self.folder.fs.unlink(layout.output_file(self.name, slot, kind))
            if self.folder.settings.force_calls and not self.folder.settings.force_results:
                self.folder.fs.force_all()      # from here on nobody looks whether its results were written
            self.journal.close()
            if self.reason != "fenced":
                self.claims.put_back_unsure()
            self.claims.give_back(set())
            withdraw_met(self.folder)
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
