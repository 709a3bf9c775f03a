"""Keys on a kernel NFS server, for hosts with kernels of their own: hard mounts, NFSv3 and NFSv4.2, default caching."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import wait_for
from tests.hosts.conftest import hosts, uml
from tests.hosts.machines import Host, Job

__all__ = ["hosts", "uml"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Tried = Callable[[str, int], None]
KEYS, BEAT, LEASE = 150, 0.5, 24
MAKE = """
import json, sys
from pathlib import Path
from runforrest.once.folder import FolderStore
FolderStore(sys.argv[1]).close()
file = Path(sys.argv[1], "runforrest.json")
file.write_text(json.dumps({**json.loads(file.read_text()), "beat": float(sys.argv[2]), "lease": int(sys.argv[3])}))
"""


@pytest.fixture(params=["/mnt/v3", "/mnt/v4.2"])
def keys(request: pytest.FixtureRequest, hosts: list[Host]) -> str:
    """A folder of keys on one kind of mount; its hearts beat fast."""
    folder = f"{request.param}/keys-{time.time_ns()}"
    made = hosts[1].python(MAKE, folder, str(BEAT), str(LEASE))
    assert made.wait() == 0, made.said()
    return folder


def start(host: Host, keys: str, *words: object) -> Job:
    return host.start(["env", f"RUNFORREST_KEYS={keys}", "HOME=/tmp", sys.executable, "-m", "tests.once.work",
                       *map(str, words)])


def words(logs: list[Path]) -> list[str]:
    return sorted(word for log in logs if log.exists() for word in log.read_text().split())


@pytest.mark.parametrize("timeout", ["heartbeat", "600"])
def test_two_hosts_share_keys(hosts: list[Host], keys: str, tmp_path: Path, timeout: str, tried: Tried) -> None:
    clients = [hosts[1], hosts[2]] * 2
    logs = [host.scratch / f"log-{tmp_path.name}-{n}" for n, host in enumerate(clients)]
    for round_ in range(2):                 # in the second there is nothing left to do
        jobs = [start(host, keys, "go_through", log, KEYS, timeout) for host, log in zip(clients, logs, strict=True)]
        assert [job.wait(200) for job in jobs] == [0] * 4, [job.said() for job in jobs]
        assert words(logs) == sorted(f"k{n}" for n in range(KEYS)), round_
    tried("keys shared by processes of two hosts on NFS", KEYS)


@pytest.mark.parametrize("timeout", ["heartbeat", "3"])
def test_a_frozen_host_is_refused(hosts: list[Host], keys: str, tmp_path: Path, timeout: str, tried: Tried) -> None:
    frozen, other = hosts[1:]
    log, rescued = frozen.scratch / f"log-{tmp_path.name}", other.scratch / f"rescued-{tmp_path.name}"
    job = start(frozen, keys, "hold", log, "k", timeout)
    wait_for(log.exists, 60)
    frozen.freeze()
    rescuer = start(other, keys, "persist", rescued, "k")
    assert rescuer.wait(120) == 0, rescuer.said()
    frozen.thaw()
    frozen.run("touch", f"{log}.go")
    assert job.wait() == 0, job.said()
    assert log.read_text().splitlines()[-1].startswith("ClaimLost"), log.read_text()
    assert rescued.read_text() == "done 2\n"
    tried("owners on a frozen NFS client, and refused when they woke", 1)


def test_what_was_looked_for_in_vain_is_seen_later(hosts: list[Host], keys: str, tmp_path: Path,
                                                   tried: Tried) -> None:
    """An NFS client remembers for a while which names are not there."""
    log = hosts[1].scratch / f"log-{tmp_path.name}"
    looking = start(hosts[1], keys, "look_twice", log, "k")
    wait_for(log.exists, 60)
    worker = start(hosts[2], keys, "persist", hosts[2].scratch / f"log-{tmp_path.name}-2", "k")
    assert worker.wait() == 0, worker.said()
    hosts[1].run("touch", f"{log}.go")
    assert looking.wait() == 0, looking.said()
    assert log.read_text().splitlines() == ["None []", "None rescued ['k']"]
    tried("keys that were done elsewhere after they had been looked for in vain", 1)
