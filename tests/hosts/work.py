"""What the tasks of these tests do.  Every child imports this module, so it imports little."""

from __future__ import annotations

import os
import socket
import time

TICK_SECONDS = 0.1


def tick(log: str, number: int, seconds: float) -> list[object]:
    """Leave a trace all the time, in a folder that is reached without the network; returns who ran it.

    Ends earlier if there is a file ``enough``.  The traces' times are the machine's, whatever the host's clock says.
    """
    me = _begin(log, number)
    end = time.monotonic() + seconds
    while True:
        with open(f"{log}/{me}.ticks", "a") as file:
            file.write(".")
        left = end - time.monotonic()
        if left <= 0 or os.path.exists(f"{log}/enough"):
            return [number, me]
        time.sleep(min(TICK_SECONDS, left))


def meet(log: str, number: int, hosts: int) -> list[object]:
    """End when this many hosts have begun something: so that each has its share of a short list."""
    me = _begin(log, number)
    while len({name.split(".")[2] for name in os.listdir(log) if name.endswith(".begun")}) < hosts:
        time.sleep(TICK_SECONDS)
    return [number, me]


def _begin(log: str, number: int) -> str:
    me = f"{number}.{os.environ['RUNFORREST_ATTEMPT']}.{socket.gethostname()}"
    with open(f"{log}/{me}.begun", "x"):
        pass
    return me
