"""Messages among the ranks of an MPI program, in which whoever waits sleeps.

A receive of MPI burns a core while it waits, and so does a barrier.  Here it is asked now and then whether something
has come, at times that grow with the wait.
"""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from typing import Any

from runforrest.engines import mpi
from runforrest.errors import ProcessError

LEAST_PAUSE, MOST_PAUSE = 50e-6, 0.05      # seconds
PAUSE_PER_WAIT = 0.02              # pauses are so much of what was waited already: so late a message is seen at most
FAREWELL_SECONDS = 10.0            # that the others have to end as well, when a rank has ended by an error
ROOT = 0
#: kinds of messages
HELLO, JOB, DONE, GAVE_UP, END, LEFT, STAY = "hello", "job", "done", "gave up", "end", "left", "stay"


class Ranks:
    """The ranks of this program, on a communicator of our own."""

    def __init__(self, world: Any) -> None:
        """All ranks make it."""
        self._comm, request = world.Idup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.maps = 0                       # so many have begun, in the whole program
        self.gone: set[int] = set()         # ranks that have left the program, as far as this one has heard
        self._sent: list[Any] = []
        self._quiet_since = time.monotonic()
        self.code = 0                       # with which this rank leaves the program, if that is known to be an error
        _wait(request.Test)
        atexit.register(self._farewell)

    def send(self, to: int, *message: Any) -> None:
        """Returns at once."""
        self._sent = [request for request in self._sent if not request.Test()]
        self._sent.append(self._comm.isend(message, to))
        self._quiet_since = time.monotonic()        # there may be an answer

    def send_all(self, *message: Any) -> None:
        for rank in range(self.size):
            if rank != self.rank:
                self.send(rank, *message)

    def receive(self, enough: Callable[[], bool] = lambda: False) -> tuple[int, tuple[Any, ...]] | None:
        """(rank, message), whenever there is one; None when it is ``enough``."""
        while True:
            found = self._poll()
            if found is not None or enough():
                return found
            time.sleep(pause_after(time.monotonic() - self._quiet_since))

    def _poll(self) -> tuple[int, tuple[Any, ...]] | None:
        status = mpi.library().Status()
        message = self._comm.improbe(status=status)
        if message is None:
            return None
        self._quiet_since = time.monotonic()
        return status.Get_source(), message.recv()

    # -- the end of the program ----------------------------------------------------------------

    def _farewell(self) -> None:
        """Before MPI's own end, for which all ranks wait, with their cores busy.

        Who comes here by an error waits so long for the others, who may wait for him in vain, and then ends them.  As
        long as the root is in a `map`, which goes on without him, they don't.
        """
        if mpi.library().Is_finalized():
            return
        code = self.code or (1 if getattr(sys, "last_value", None) is not None else 0)
        peers = {ROOT} if self.rank != ROOT else set(range(self.size)) - {ROOT}
        for rank in peers:
            self.send(rank, LEFT)
        request, begun, until = self._comm.Ibarrier(), time.monotonic(), time.monotonic() + FAREWELL_SECONDS
        while not (request.Test() and peers <= self.gone):      # MPI complains of messages that nobody has received
            source, message = self._poll() or (self.rank, ("",))
            if message[0] == LEFT:
                self.gone.add(source)
            if message[0] in (END, LEFT, STAY):
                until = float("inf") if message[0] == STAY else time.monotonic() + FAREWELL_SECONDS
            if code and time.monotonic() > until:
                self._abort(code)
            time.sleep(pause_after(time.monotonic() - begun))

    def _abort(self, code: int) -> None:
        sys.stdout.flush()
        print(f"runforrest: rank {self.rank} has ended by an error, and others have not ended {FAREWELL_SECONDS:g} s "
              f"later: all are ended", file=sys.stderr, flush=True)
        self._comm.Abort(code)


def pause_after(seconds: float) -> float:
    """How long to sleep, when one has waited so long."""
    return min(max(seconds * PAUSE_PER_WAIT, LEAST_PAUSE), MOST_PAUSE)


def _wait(done: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not done():
        time.sleep(pause_after(time.monotonic() - begun))


_ranks: list[Ranks] = []


def ranks_of(world: Any) -> Ranks:
    """The one for the whole program."""
    if not _ranks:
        _ranks.append(Ranks(world))
    return _ranks[0]


def thread_may_send() -> bool:
    """Whether MPI may be used from any thread, and by several at once."""
    library = mpi.library()
    return bool(library.Query_thread() == library.THREAD_MULTIPLE)


def connect() -> Any:
    """MPI's communicator of all ranks.

    Raises ProcessError if this process is one of several that mpirun has started, and mpi4py does not know about that:
    each would take itself for the only one.  Whatever else prevents it from being used is raised as it comes.
    """
    started = mpi.world()
    try:
        world = mpi.library().COMM_WORLD
    except Exception as error:
        if started is None or started.size == 1:
            raise
        raise ProcessError(f"this is one of {started.size} ranks, and mpi4py can't be used ({error}): install it, or "
                           f"start the program without mpirun") from error
    if started is not None and world.Get_size() != started.size:
        raise ProcessError(f"this is one of {started.size} ranks, and mpi4py sees {world.Get_size()}: it uses another "
                           f"MPI than the mpirun that has started the program "
                           f"({mpi.library().Get_library_version().splitlines()[0]:.60})")
    return world
