"""Engines: they start runners somewhere, and tell which of them have ended, and how.

An engine runs no task.  A runner is a ``runforrest run`` like any other: once it is at work, nothing depends on
whoever started it.

    places = ssh.places(["big:64,small:8"], cpus_per_task=2)
    with ssh.engine(starts(places, "DIR", "PREFIX", "SSH0")) as engine:
        for ended in engine.wait():
            print(ended)
"""

from runforrest.engines.engine import Engine
from runforrest.engines.places import Place, starts
from runforrest.engines.retirement import Retirement
from runforrest.engines.start import Ended, Start

__all__ = ["Ended", "Engine", "Place", "Retirement", "Start", "starts"]
