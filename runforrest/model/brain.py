"""The runner's decisions: an event and the time go in, actions come out.

Pure: no file, process or clock, so every rule about slots, retries, signals and faults is tested with
plain values.  Times are seconds on a monotonic clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from runforrest.model import events as ev
from runforrest.model import outcomes
from runforrest.model.limits import Limits
from runforrest.model.names import Name
from runforrest.model.resources import Budget, Capacity, Needs

RUNNING, DRAINING, RELEASING, FENCED, GONE = "running", "draining", "releasing", "fenced", "gone"
IDLE_LEAST, IDLE_MOST = 0.05, 1.0      # pauses between two looks at an empty todo/
FAULT_LEAST, FAULT_MOST = 0.5, 15.0    # pauses after the folder was in trouble
MOST_READS = 6                         # times that a file is read that seems to be damaged, within half a minute


class Slot:
    """What one slot is doing: starting, idle, claiming, busy, stopping; ``service``: it runs one."""

    __slots__ = ("name", "service", "state")

    def __init__(self) -> None:
        self.state = "starting"
        self.name: Name | None = None
        self.service = False


class Brain:
    """State of one runner's decisions.

    budget          what its tasks may use up
    most_tasks      leave when so many were begun; None: never
    services        slots more, for services alone
    wait_for_more   stay when the list is done, until told to leave
    grace           seconds that a task gets between TERM and KILL when the runner must leave
    jitter          gives random numbers in [0, 1)
    until           when its tasks must be told to end, on the monotonic clock; None: never
    """

    def __init__(self, slots: int, wait_for_more: bool, grace: float, jitter: Callable[[], float],
                 until: float | None = None, budget: Budget | None = None, most_tasks: int | None = None,
                 services: int = 0) -> None:
        self.slots = [Slot() for _ in range(slots + services)]
        self.services = range(slots, slots + services)
        self.budget = budget or Budget(Capacity(slots))
        self.tasks_left = most_tasks
        self.wait_for_more, self.grace, self.jitter, self.until = wait_for_more, grace, jitter, until
        self.mode = RUNNING
        self.reason = "done"
        self.publishing: set[str] = set()  # ids of tasks that are on their way to done/ or fail/
        self.held: list[tuple[float, int, ev.Release | ev.Commit]] = []    # moves to be made later
        self._order = 0
        self._look_at = 0.0                # when todo/ may be looked at again
        self._idle = IDLE_LEAST
        self._fault = 0.0                  # the current pause after a fault; 0: all is well
        self._trouble: dict[str, int] = {} # faults by task
        self._results_wait: set[int] = set()   # slots whose result can't be written at present
        self._full = False                 # the filesystem
        self._noticed: set[str] = set()    # who has found the folder in trouble, and will tell when that is over
        self._claims_fail = False
        self._is_cut_off = False           # until the next heartbeat tells whether others have taken over
        self._holding = self._paused = False   # by the consumer of results; by a person
        self.cancelled: frozenset[str] = frozenset()
        self._others = False
        self._service_at = 0.0             # when a service may be looked for again
        self._no_services = True           # none was there at the last look, and nothing has happened since
        self._too_long, self._unfit, self._stuck = 0, "", ""
        self._exhausted = False            # the last look found nothing, and nothing has happened since
        self._dry = False                  # … and the others will do without this runner
        self._handlers: dict[type[ev.Event], Callable[[Any, float], list[ev.Action]]] = {
            ev.Tick: self._tick, ev.SlotReady: self._slot_ready, ev.Claimed: self._claimed,
            ev.NothingToClaim: self._nothing, ev.NoService: self._no_service,
            ev.Ended: self._ended, ev.Released: self._released,
            ev.Vanished: self._vanished, ev.SlotFault: self._slot_fault, ev.GuardDied: self._guard_died,
            ev.FolderFault: self._folder_fault, ev.Recovered: self._recovered,
            ev.Unmoved: self._unmoved, ev.MoreWork: self._more_work, ev.NoMore: self._no_more,
            ev.Published: self._published, ev.Overtaken: self._overtaken,
            ev.Settled: self._settled, ev.Interrupt: self._interrupt, ev.Terminate: self._terminate,
            ev.Fenced: self._fenced, ev.CutOff: self._cut_off, ev.Reached: self._reached,
            ev.Room: self._room, ev.Hold: self._hold, ev.Asked: self._asked, ev.ResultWaits: self._result_waits}

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """What to do about this event, in this order."""
        if self.mode == GONE:
            return []
        actions = self._handlers[type(event)](event, now)
        actions += self._time_over(now)
        actions += self._moves_due(now)
        actions += self._claim_for_idle(now)
        self.publishing.update(action.name.id for action in actions if isinstance(action, ev.Commit))
        return [*actions, *self._hand_over(), *self._leave_if_done()]

    def wait(self, now: float) -> float | None:
        """Seconds until a Tick is needed; None: not before something happens."""
        times = [self.held[0][0]] if self.held else []
        if self._may_claim() and any(s.state == "idle" for s in self.slots[:self.services.start]):
            times.append(self._look_at)
        if self._may_claim() and any(self.slots[number].state == "idle" for number in self.services):
            times.append(self._service_at)
        if self.until is not None and self.mode in (RUNNING, DRAINING):
            times.append(self.until)
        return max(0.0, min(times) - now) if times else None

    def rests(self) -> bool:
        """Whether no task is being run, but for services."""
        return not any(slot.name and not slot.service for slot in self.slots)

    # -- slots ---------------------------------------------------------------------------

    def _tick(self, event: ev.Tick, now: float) -> list[ev.Action]:
        return []

    def _slot_ready(self, event: ev.SlotReady, now: float) -> list[ev.Action]:
        slot = self.slots[event.slot]
        if slot.state == "starting":
            slot.state = "idle"
        return []

    def _claim_for_idle(self, now: float) -> list[ev.Action]:
        if not self._may_claim():
            return []
        wanted = range(self.services.start) if now >= self._look_at else range(0)
        claims = [ev.Claim(number) for number in wanted if self.slots[number].state == "idle"]
        if now >= self._service_at:
            claims += [ev.Claim(number, True) for number in self.services if self.slots[number].state == "idle"]
        for claim in claims:
            self.slots[claim.slot].state = "claiming"
        return [*claims]

    def _may_claim(self) -> bool:
        return self.mode == RUNNING and not (self._holding or self._paused or self._in_trouble())

    def _claimed(self, event: ev.Claimed, now: float) -> list[ev.Action]:
        slot = self.slots[event.slot]
        self._idle, self._exhausted = IDLE_LEAST, False
        said = self._claims_work(now)
        if self.mode != RUNNING:
            slot.state = "idle"
            return [] if self.mode == FENCED else [*said, ev.Release(event.name)]
        slot.state, slot.name, slot.service = "busy", event.name, event.needs.service
        grant = self.budget.take(event.slot, event.needs)
        if event.cancelled:
            return [*said, ev.Record(event.slot, event.name, outcomes.CANCELLED, "cancelled before it was started")]
        start = ev.Start(event.slot, event.name, grant)
        return [*said, start, *self._begun(event.needs)]

    def _begun(self, needs: Needs) -> list[ev.Action]:
        if self.tasks_left is None or needs.service:
            return []
        self.tasks_left -= 1
        return [] if self.tasks_left else self._drain("stopped", "it has begun as many tasks as it should")

    def _claims_work(self, now: float) -> list[ev.Action]:
        """A claim was possible, which is news only if the last was not: what is wrong with a file shows later."""
        failed, self._claims_fail = self._claims_fail, False
        return self._well(now) if failed else []

    def _nothing(self, event: ev.NothingToClaim, now: float) -> list[ev.Action]:
        self.slots[event.slot].state = "idle"
        self._others, self._exhausted, self._dry = event.others, True, event.dry
        self._too_long, self._unfit, self._stuck = event.too_long, event.unfit, event.stuck
        self._claims_fail = False
        if self.services:                  # before it leaves, another look for these
            self._no_services, self._service_at = False, now
        said = self._well(now)
        if now >= self._look_at:           # the first slot to come back; the others looked at the same time
            self._look_at = now + self._idle * (0.75 + self.jitter() / 2)
            self._idle = min(IDLE_MOST, self._idle * 2)
        return said

    def _no_service(self, event: ev.NoService, now: float) -> list[ev.Action]:
        self.slots[event.slot].state = "idle"
        self._no_services, self._service_at = True, now + IDLE_MOST
        self._others = self._others or event.others
        return []

    def _free(self, number: int, name: Name) -> bool:
        """The slot is free again; False if that was not its task (an old report)."""
        slot = self.slots[number]
        if slot.name != name:
            return False
        slot.name, slot.service = None, False
        if slot.state != "starting":       # a guard that is not up yet is given nothing
            slot.state = "idle"
        self.budget.give_back(number)
        self._results_wait.discard(number)
        self._exhausted = False            # what ran here may have scheduled more
        if not self._fault:
            self._look_at = 0.0
        return True

    # -- how attempts end ----------------------------------------------------------------

    def _ended(self, event: ev.Ended, now: float) -> list[ev.Action]:
        if not self._free(event.slot, event.name) or self.mode == FENCED:
            return []
        said = self._well(now)             # its file could be read and written
        if event.outcome == outcomes.RETURNED:
            return [*said, ev.Commit(event.name, "done", event.report)]
        if not event.again:
            return [*said, ev.Commit(event.name, "fail", event.report)]
        again = ev.Release(event.name, event.report)
        delay = Limits.from_json(event.report.get("limits")).delay(max(1, event.failures), self.jitter())
        if self.mode != RUNNING or not delay or event.name.id in self.cancelled:
            return [*said, again]
        self._hold_back(again, now + delay)
        return said

    def _hold_back(self, move: ev.Release | ev.Commit, due: float) -> None:
        self._order += 1
        heapq.heappush(self.held, (due, self._order, move))

    def _moves_due(self, now: float) -> list[ev.Action]:
        """Back-offs that are over, and moves that failed and are tried again; all at once when leaving."""
        actions: list[ev.Action] = []
        while self.held and (self.held[0][0] <= now or self.mode not in (RUNNING, DRAINING)):
            actions.append(heapq.heappop(self.held)[2])
            self._look_at, self._exhausted = min(self._look_at, now), False
        if self.mode == DRAINING and self.held:         # no next attempt here; but results are published when they can
            actions += [move for _, _, move in self.held if isinstance(move, ev.Release)]
            self.held = [each for each in self.held if isinstance(each[2], ev.Commit)]
            heapq.heapify(self.held)
        return actions

    def _published(self, event: ev.Published, now: float) -> list[ev.Action]:
        self.publishing.difference_update(event.ids)
        self.cancelled -= set(event.ids)        # met; the same task may be tried again before the next look
        return self._well(now)

    def _overtaken(self, event: ev.Overtaken, now: float) -> list[ev.Action]:
        self.publishing.discard(event.name.id)
        return [ev.Say(f"{event.name} was taken over by another runner; this result is not published"),
                *self._well(now)]

    def _unmoved(self, event: ev.Unmoved, now: float) -> list[ev.Action]:
        """A task could not be moved: its result is safe in its file, so it can wait, for the next runner too."""
        self.publishing.discard(event.move.name.id)
        if self.mode == FENCED:
            return []
        said = self._folder_fault(ev.FolderFault(event.problem), now)
        if self.mode == RUNNING or (self.mode == DRAINING and isinstance(event.move, ev.Commit)):
            self._hold_back(event.move, max(self._look_at, now + FAULT_LEAST))
            return said
        return [ev.Say(f"{event.move.name} stays in doing/ for the next runner: {event.problem}")]

    def _released(self, event: ev.Released, now: float) -> list[ev.Action]:
        return [ev.Release(event.name)] if self._free(event.slot, event.name) and self.mode != FENCED else []

    def _vanished(self, event: ev.Vanished, now: float) -> list[ev.Action]:
        if not self._free(event.slot, event.name):
            return []
        return [ev.Say(f"{event.name} was taken away while it ran here; its result is not published")]

    def _slot_fault(self, event: ev.SlotFault, now: float) -> list[ev.Action]:
        trouble = self._trouble.get(event.name.id, 0) + 1
        if event.damaged and trouble >= MOST_READS and self.mode == RUNNING \
                and self.slots[event.slot].name == event.name:
            return [ev.GiveUp(event.slot, event.name, f"{event.problem} ({trouble} times)")]
        if not self._free(event.slot, event.name):
            return []
        if self.mode == FENCED:
            return []
        self._trouble[event.name.id] = trouble
        actions = self._folder_fault(ev.FolderFault(event.problem), now)
        # held back longer each time: a single file that can't be read must not keep the others waiting
        self._hold_back(ev.Release(event.name), now + min(FAULT_MOST, FAULT_LEAST * 2.0 ** trouble))
        return actions

    def _guard_died(self, event: ev.GuardDied, now: float) -> list[ev.Action]:
        slot = self.slots[event.slot]
        name, slot.name = slot.name, None
        was, slot.state = slot.state, "starting"
        self._results_wait.discard(event.slot)
        if name is None or self.mode == FENCED:
            return []
        if was == "stopping":
            self.budget.give_back(event.slot)
            return [ev.Release(name)]
        slot.name = name
        return [ev.Record(event.slot, name, outcomes.LOST,
                          "the guard of its slot was killed, and the task with it")]

    # -- the folder ----------------------------------------------------------------------

    def _folder_fault(self, event: ev.FolderFault, now: float) -> list[ev.Action]:
        if event.slot is not None:
            self._claims_fail = True
            if self.slots[event.slot].state == "claiming":
                self.slots[event.slot].state = "idle"
        if event.source:
            self._noticed.add(event.source)
        first = not self._fault
        if first or now >= self._look_at:      # one pause, however many notice the same fault
            self._fault = min(FAULT_MOST, self._fault * 2 or FAULT_LEAST)
            self._look_at = now + self._fault
        return [ev.Say(f"the folder is in trouble: {event.problem}; nothing new is started until it is well")
                ] if first else []

    def _result_waits(self, event: ev.ResultWaits, now: float) -> list[ev.Action]:
        if self.slots[event.slot].name is None:
            return []
        self._results_wait.add(event.slot)
        return self._folder_fault(ev.FolderFault(f"{event.problem}; a result waits in memory"), now)

    def _recovered(self, event: ev.Recovered, now: float) -> list[ev.Action]:
        self._noticed.discard(event.source)
        return self._well(now)

    def _in_trouble(self) -> bool:
        """Whether something is known that must be over before a task is started, or the folder is called well."""
        return bool(self._results_wait or self._full or self._is_cut_off or self._noticed or (self._fault and (
            self.publishing or any(isinstance(move, ev.Commit) for _, _, move in self.held))))

    def _well(self, now: float) -> list[ev.Action]:
        """Something was possible again; whether all is."""
        if not self._fault or self._claims_fail or self._in_trouble():
            return []
        self._fault, self._look_at = 0.0, min(self._look_at, now)
        return [ev.Say("the folder is well again")]

    def _room(self, event: ev.Room, now: float) -> list[ev.Action]:
        self._full = not event.free
        if self._full:
            return self._folder_fault(ev.FolderFault(f"no space left for {event.where}"), now)
        return self._well(now)

    def _more_work(self, event: ev.MoreWork, now: float) -> list[ev.Action]:
        self._exhausted = False
        if not self._fault:
            self._look_at, self._idle = now, IDLE_LEAST
        return []

    def _no_more(self, event: ev.NoMore, now: float) -> list[ev.Action]:
        self.wait_for_more = False
        return self._more_work(ev.MoreWork(), now)

    def _settled(self, event: ev.Settled, now: float) -> list[ev.Action]:
        said: list[ev.Action] = []
        if event.why:
            said.append(ev.Say(event.why))
        elif event.why is None and event.state == "fail":
            said.append(ev.Say(f"{event.name} goes to fail/: its runners died too often (crash_limit)"))
        return [*said, ev.Announce(event.name, event.state)]

    def _hold(self, event: ev.Hold, now: float) -> list[ev.Action]:
        self._holding = event.on
        return []

    # -- what people ask -------------------------------------------------------------------

    def _asked(self, event: ev.Asked, now: float) -> list[ev.Action]:
        actions = self._pause(event.pause, now)
        for number, slot in enumerate(self.slots):
            if slot.state == "busy" and slot.name and slot.name.id in event.cancel - self.cancelled:
                actions.append(ev.Cancel(number, slot.name))
        if event.cancel:                           # what waits for its next attempt: the next claim ends it
            actions += [move for _, _, move in self.held if move.name.id in event.cancel]
            self.held = [each for each in self.held if each[2].name.id not in event.cancel]
            heapq.heapify(self.held)
        self.cancelled = event.cancel
        if event.stop_now:
            actions += self._stop_all("stopped", self.grace)
        elif event.stop:
            actions += self._drain("stopped", "asked to stop")
        return actions

    def _pause(self, on: bool, now: float) -> list[ev.Action]:
        if on == self._paused:
            return []
        self._paused = on
        if on:
            return [ev.Say("paused: nothing new is started, what runs is finished; `runforrest resume` goes on")]
        self._look_at, self._exhausted = min(self._look_at, now), False
        return [ev.Say("resumed")]

    # -- leaving -------------------------------------------------------------------------

    def _time_over(self, now: float) -> list[ev.Action]:
        if self.until is None or now < self.until or self.mode not in (RUNNING, DRAINING):
            return []
        return [ev.Say("its time is nearly over"), *self._stop_all("walltime", self.grace)]

    def _drain(self, reason: str, why: str, more: str = "") -> list[ev.Action]:
        """Leave when the running tasks are finished."""
        if self.mode != RUNNING:
            return []
        self.mode, self.reason = DRAINING, reason
        busy = sum(slot.state == "busy" and not slot.service for slot in self.slots)
        return [ev.Say(f"{why}: nothing new is started, {busy} running task{'s' * (busy != 1)} will be "
                       f"finished{more}"),
                *(self._end(number, self.grace) for number, slot in enumerate(self.slots)
                  if slot.service and slot.state == "busy")]

    def _interrupt(self, event: ev.Interrupt, now: float) -> list[ev.Action]:
        if self.mode == RUNNING:
            return self._drain("drained", "stopping", "; once more to end them now and put them back")
        return self._stop_all("released", 0.0)

    def _terminate(self, event: ev.Terminate, now: float) -> list[ev.Action]:
        return self._stop_all(event.reason, self.grace)

    def _stop_all(self, reason: str, grace: float) -> list[ev.Action]:
        if self.mode in (RUNNING, DRAINING):
            self.mode, self.reason = RELEASING, reason
        running = sum(slot.state == "busy" and not slot.service for slot in self.slots)
        actions: list[ev.Action] = [self._end(number, grace) for number, slot in enumerate(self.slots)
                                    if slot.state in ("busy", "stopping")]
        if running and self.mode == RELEASING:          # once, however often it is asked for
            actions.insert(0, ev.Say(f"ending {running} running task{'s' * (running > 1)}; "
                                     f"{'they go' if running > 1 else 'it goes'} back to todo/, uncounted"))
        return actions

    def _end(self, number: int, grace: float) -> ev.Stop:
        self.slots[number].state = "stopping"
        return ev.Stop(number, grace)

    def _fenced(self, event: ev.Fenced, now: float) -> list[ev.Action]:
        if self.mode == FENCED:            # said already
            return self._stop_all("fenced", 0.0)
        self.mode, self.reason = FENCED, "fenced"
        self.held.clear()                  # what is fenced moves nothing
        self.publishing.clear()
        return [ev.Say(f"{event.problem}: this runner stops, publishes nothing more and ends its tasks"),
                *self._stop_all("fenced", 0.0)]

    def _cut_off(self, event: ev.CutOff, now: float) -> list[ev.Action]:
        """Its tasks end, and go back when that is possible; whether this runner goes on, the next heartbeat tells."""
        if self._is_cut_off or self.mode == FENCED:
            return []
        self._is_cut_off = True
        return [ev.Say(f"{event.problem}: its tasks are ended, as others may take them")]

    def _reached(self, event: ev.Reached, now: float) -> list[ev.Action]:
        if not self._is_cut_off:
            return []
        self._is_cut_off, self._look_at, self._exhausted = False, now, False
        return [ev.Say("the folder can be reached again, and nobody has taken over: going on")]

    def _hand_over(self) -> list[ev.Action]:
        """Put back the services, if they are all that this runner has: others at work take them, and it can leave."""
        busy = [number for number, slot in enumerate(self.slots) if slot.state == "busy"]
        others = any(slot.state in ("stopping", "claiming") for slot in self.slots)
        if not busy or others or not all(self.slots[number].service for number in busy):
            return []
        if self.mode != RUNNING or not (self._exhausted and self._dry) or self.wait_for_more \
                or self.held or self.publishing or self._fault or self._in_trouble():
            return []
        self.mode = DRAINING
        return [self._end(number, self.grace) for number in busy]

    def _leave_if_done(self) -> list[ev.Action]:
        active = any(slot.state in ("busy", "stopping", "claiming") or slot.name for slot in self.slots)
        if active or self.held or self.publishing or (self._is_cut_off and self.mode in (RUNNING, DRAINING)):
            return []
        if self.mode == RUNNING:
            ready = any(slot.state == "idle" for slot in self.slots)
            if self.wait_for_more or self._others or not self._exhausted or self._fault or not ready \
                    or not self._no_services:
                return []
            if self._too_long:
                self.mode, self.reason = GONE, "walltime"
                return [ev.Say(f"{self._too_long} task{'s' * (self._too_long > 1)} in todo/ would take longer than "
                               f"this runner's time; left for another"), ev.Exit(self.reason)]
            if self._unfit:
                self.mode, self.reason = GONE, "unfit"
                return [ev.Say(f"what is left in todo/ can't run here: {self._unfit}"), ev.Exit(self.reason)]
            if self._stuck:
                self.mode, self.reason = GONE, "stuck"
                return [ev.Say(self._stuck), ev.Exit(self.reason)]
        self.mode = GONE
        return [ev.Exit(self.reason)]
