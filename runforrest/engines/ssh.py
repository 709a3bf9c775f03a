"""Runners on hosts that the system's own ssh reaches, as the user has set it up."""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Callable, Sequence

from runforrest.engines.engine import Engine
from runforrest.engines.held import Held, HeldElsewhere, with_import_path
from runforrest.engines.places import Place, fitting, some
from runforrest.engines.retirement import Retirement
from runforrest.engines.start import Start
from runforrest.errors import InvalidArgument

#: the program and options of one's own, which win over those below, as ``ssh -F FILE``
PROGRAM_VARIABLE = "RUNFORREST_SSH"
_ITEM = re.compile(r"(?P<host>[^\s;-][^\s;]*):(?P<cores>[0-9]{1,5})")
#: never ask anybody; tell soon that a host can't be reached, or is gone; leave connections of the user alone
OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15", "ServerAliveCountMax=4",
           "ControlMaster=no", "RemoteCommand=none", "RequestTTY=no", "ClearAllForwardings=yes")


class HeldBySsh(HeldElsewhere):
    """What the shell is to do is given on standard input: so it is quoted for no other shell than sh."""

    def command(self) -> list[str]:
        return [*ssh_program(), *(f"-o{option}" for option in OPTIONS), "--", self.start.node, "/bin/sh"]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def input(self) -> bytes:
        return self.start.script(with_import_path(self.start.variables())).encode()

    def is_lost(self, code: int) -> bool:
        """When ssh has ended after it was connected and before the runner, which does not know about that."""
        return self.hello() is not None and self.farewell() is None


def ssh_program() -> list[str]:
    """The program and options of the user's own.  Raises InvalidArgument."""
    text = os.environ.get(PROGRAM_VARIABLE, "")
    try:
        return shlex.split(text) or ["ssh"]
    except ValueError as error:
        raise InvalidArgument(f"{PROGRAM_VARIABLE} is {text!r}: {error}", argument=PROGRAM_VARIABLE) from None


def engine(starts: Sequence[Start], retirement: Retirement | None = None) -> Engine:
    """Each runner by an ssh of its own; on this host, without.  Raises InvalidArgument."""
    ssh_program()
    return Engine([Held(start) if is_here(start.node) else HeldBySsh(start) for start in starts], retirement)


def places(texts: Sequence[str], cpus_per_task: float | None = None, tasks_per_node: int | None = None,
           warn: Callable[[str], None] = lambda text: None) -> list[Place]:
    """From ``HOST:CORES[,HOST:CORES]…``, as disBatch's ``-s`` and DISBATCH_SSH_NODELIST have it.

    The same host again adds up.  Slots: ``tasks_per_node`` if given and not 0, else what ``cpus_per_task`` leaves.
    Raises InvalidArgument.
    """
    cores: dict[str, int] = {}
    for item in filter(None, (item.strip() for text in texts for item in text.split(","))):
        found = _ITEM.fullmatch(re.sub(r"[][]", "", item))      # in which ssh wants no address of IPv6
        if found is None:
            raise InvalidArgument(f"{item!r} is not HOST:CORES, as localhost:8 or me@big.example.org:32",
                                  argument="ssh_node")
        node, number = found["host"], found["cores"]
        node = socket.gethostname() if node == "localhost" else node
        cores[node] = cores.get(node, 0) + int(number)
    each = cpus_per_task if cpus_per_task is not None else 1
    if each <= 0:
        raise InvalidArgument(f"a task takes more than {each:g} cores", argument="cpus_per_task")
    return some([_place(node, number, tasks_per_node or fitting(number, each))
                 for node, number in cores.items()], warn)


def _place(node: str, cores: int, slots: int) -> Place:
    return Place(node, slots, cores, cores // slots if slots > 0 else cores)


def is_here(node: str) -> bool:
    """Whether the first part of the name is this host's, so that no ssh is needed."""
    own = socket.gethostname().partition(".")[0]
    return node == "localhost" or node.partition(".")[0] == own
