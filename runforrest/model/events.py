"""What happens to a runner, and what it may do about it: the two vocabularies of `brain`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.model.resources import ORDINARY, Grant, Needs

# -- events ------------------------------------------------------------------------------


@dataclass(slots=True)
class Event:
    """Something that happened."""


@dataclass(slots=True)
class Tick(Event):
    """Time has passed."""


@dataclass(slots=True)
class SlotReady(Event):
    """A guard is up."""
    slot: int


@dataclass(slots=True)
class Claimed(Event):
    """A claim succeeded; the slot may run it, unless it is ``cancelled``."""
    slot: int
    name: Name
    needs: Needs = ORDINARY
    cancelled: bool = False


@dataclass(slots=True)
class NoMore(Event):
    """Who it stayed for is gone: leave when the list is done."""


@dataclass(slots=True)
class NothingToClaim(Event):
    """A fresh listing of ``todo/`` had nothing for this runner.

    others    other runners hold tasks
    too_long  tasks there for which this runner has not enough time left
    unfit     one that needs more than this runner has, and of what; ''
    stuck     why tasks in waiting/ can't be let go by anybody's work; ''
    dry       they are at work, and will do without this runner, also as hosts of a service that it runs
    """
    slot: int
    others: bool
    too_long: int = 0
    unfit: str = ""
    stuck: str = ""
    dry: bool = False


@dataclass(slots=True)
class NoService(Event):
    """There is none in ``todo/``.  ``others``: other runners hold tasks, perhaps that service since the last look."""
    slot: int
    others: bool = False


@dataclass(slots=True)
class Ended(Event):
    """An attempt ended and its record is in the file."""
    slot: int
    name: Name
    outcome: str
    again: bool                # its limits allow another attempt
    failures: int = 0          # failed attempts so far
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """For good."""
        return self.outcome != outcomes.RETURNED and not self.again


@dataclass(slots=True)
class Released(Event):
    """A child was ended on request, without a record."""
    slot: int
    name: Name


@dataclass(slots=True)
class Vanished(Event):
    """The claimed file is gone: taken over, or removed by a person."""
    slot: int
    name: Name


@dataclass(slots=True)
class SlotFault(Event):
    """The slot could not read or write the task's file.  ``damaged``: as if the disk had lost it."""
    slot: int
    name: Name
    problem: str
    damaged: bool = False


@dataclass(slots=True)
class ResultWaits(Event):
    """An attempt of this slot has ended, and its result can't be written now; it is kept and tried again."""
    slot: int
    problem: str


@dataclass(slots=True)
class GuardDied(Event):
    """A slot's guard was killed; another is on its way up.  ``reported``: by a fork server that lives."""
    slot: int
    reported: bool = False


@dataclass(slots=True)
class ServerGone(Event):
    """The fork server was killed, and all guards with it.  The loop's own: it turns it into a GuardDied per slot."""


@dataclass(slots=True)
class FolderFault(Event):
    """The runner itself could not reach the folder, or write to it.

    slot    while it claimed for this one
    source  who has noticed it, and will tell with a Recovered when that is over; ''
    """
    problem: str
    slot: int | None = None
    source: str = ""


@dataclass(slots=True)
class Recovered(Event):
    """What this source of FolderFaults does is possible again."""
    source: str


@dataclass(slots=True)
class Unmoved(Event):
    """A task could not be moved to where it belongs; it is in ``doing/`` still, with its result."""
    move: Release | Commit
    problem: str


@dataclass(slots=True)
class Forced(Event):
    """Results are on disk and can be published, or can't be forced ('' or what is wrong).  The loop's own."""
    results: list[tuple[Commit, str]]


@dataclass(slots=True)
class Published(Event):
    """These tasks (ids) are where everybody looks for them now."""
    ids: list[str]


@dataclass(slots=True)
class Overtaken(Event):
    """A task that was to be published has been taken over by another runner: nothing of this attempt counts."""
    name: Name


@dataclass(slots=True)
class Settled(Event):
    """A task that does not run here was moved to where it belongs: that of a dead runner had ended, or was lost too
    often; or what it waited for has failed.

    why  what is said of it; None: that its runners died too often, if it has failed
    """
    name: Name
    state: str
    why: str | None = None


@dataclass(slots=True)
class MoreWork(Event):
    """There may be new tasks in ``todo/``: something was scheduled or taken back."""


@dataclass(slots=True)
class Interrupt(Event):
    """Ctrl-C."""


@dataclass(slots=True)
class Terminate(Event):
    """End within the grace time and give the tasks back.  ``reason``: terminated (SIGTERM), walltime (SIGUSR1)."""
    reason: str = "terminated"


@dataclass(slots=True)
class Asked(Event):
    """All that people ask of this runner now.

    pause     start nothing new
    stop      leave when the running tasks are finished; ``stop_now``: put them back and leave
    cancel    ids of tasks to end, whoever has them
    """
    pause: bool = False
    stop: bool = False
    stop_now: bool = False
    cancel: frozenset[str] = frozenset()


@dataclass(slots=True)
class Fenced(Event):
    """Others have declared this runner dead, or it must assume so."""
    problem: str


@dataclass(slots=True)
class Room(Event):
    """The filesystem is full (False), or is not any more (True)."""
    free: bool
    where: str


@dataclass(slots=True)
class Broken(Event):
    """A thread of this runner has ended by an exception that nobody expected.  The loop's own: it raises it."""
    error: Exception


@dataclass(slots=True)
class CutOff(Event):
    """The folder could not be reached for so long that others may take over: the tasks here were told to end."""
    problem: str


@dataclass(slots=True)
class Reached(Event):
    """A heartbeat succeeded after that: nobody has taken over."""


@dataclass(slots=True)
class Hold(Event):
    """The consumer of results can't keep up (True), or can again (False)."""
    on: bool


# -- actions -----------------------------------------------------------------------------


@dataclass(slots=True)
class Action:
    """Something to do."""


@dataclass(slots=True)
class Claim(Action):
    """Try to claim a task for this slot; answer with Claimed or NothingToClaim.

    service  it is the slot of services: nothing else; answer with Claimed or NoService
    """
    slot: int
    service: bool = False


@dataclass(slots=True)
class Start(Action):
    """Have the slot run its claimed task, with what it was given."""
    slot: int
    name: Name
    grant: Grant = field(default_factory=Grant)


@dataclass(slots=True)
class Commit(Action):
    """Move an ended task to ``done`` or ``fail``."""
    name: Name
    state: str
    report: dict[str, Any]


@dataclass(slots=True)
class Release(Action):
    """Move a task back to ``todo``: not run, or to be tried again (then with the report of the attempt)."""
    name: Name
    report: dict[str, Any] | None = None


@dataclass(slots=True)
class Record(Action):
    """Write the record of an attempt that no guard can write, then answer with Ended."""
    slot: int
    name: Name
    outcome: str
    message: str


@dataclass(slots=True)
class GiveUp(Action):
    """Write beside a task's file that it can't be read, then answer with Ended, or with SlotFault if that failed."""
    slot: int
    name: Name
    message: str


@dataclass(slots=True)
class Stop(Action):
    """Have the slot end its task: TERM, and KILL after the grace (seconds)."""
    slot: int
    grace: float


@dataclass(slots=True)
class Cancel(Action):
    """Have the slot end this task, which then fails as cancelled."""
    slot: int
    name: Name


@dataclass(slots=True)
class Announce(Action):
    """Report a task as finished that this runner has not run."""
    name: Name
    state: str


@dataclass(slots=True)
class Say(Action):
    """Tell the person at the terminal."""
    text: str


@dataclass(slots=True)
class Exit(Action):
    """Leave.  ``reason``: done, drained, released, terminated, stopped, walltime, unfit, stuck, fenced."""
    reason: str
