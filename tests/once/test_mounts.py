"""Keys on a filesystem that two hosts mount: a mount of its own for each, and no look at the other's processes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runforrest.once.folder import FolderStore
from tests.helpers import wait_for
from tests.hosts.conftest import gluster, gluster_replica, sshfs
from tests.hosts.machines import Job, Namespace, Part

__all__ = ["gluster", "gluster_replica", "sshfs"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
Tried = Callable[[str, int], None]
KEYS, BEAT, LEASE = 200, 0.5, 16


@pytest.fixture(params=["gluster", "gluster_replica", "sshfs"])
def part(request: pytest.FixtureRequest) -> Part:
    found: Part = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def machines(part: Part, tmp_path: Path) -> Iterator[list[Namespace]]:
    shared = part.folder / "shared"
    shared.mkdir(exist_ok=True)
    made = [Namespace(name, tmp_path / name, part.folder / f"mnt{k}", shared)
            for k, name in enumerate(("east", "west"), 1)]
    yield made
    for each in made:
        each.clean()


@pytest.fixture
def keys(part: Part, machines: list[Namespace]) -> Path:
    """A folder of keys, where both machines see it; its hearts beat fast."""
    name = f"keys-{time.time_ns()}"
    mounted = part.folder / "mnt1" / name
    FolderStore(mounted).close()
    file = mounted / "runforrest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "beat": BEAT, "lease": LEASE}))
    return part.folder / "shared" / name


def start(machine: Namespace, keys: Path, *words: object) -> Job:
    return machine.start(["env", f"RUNFORREST_KEYS={keys}", f"HOME={machine.scratch}", sys.executable, "-m",
                          "tests.once.work", *map(str, words)])


@pytest.mark.parametrize("timeout", ["heartbeat", "600"])
def test_two_mounts_share_keys(part: Part, machines: list[Namespace], keys: Path, tmp_path: Path, timeout: str,
                               tried: Tried) -> None:
    log = tmp_path / "log"
    jobs = [start(machine, keys, "go_through", log, KEYS, timeout) for machine in machines for _ in range(2)]
    assert [job.wait() for job in jobs] == [0] * 4, [job.said() for job in jobs]
    done = sorted(log.read_text().split())
    again = [start(machine, keys, "go_through", log, KEYS, timeout) for machine in machines]
    assert [job.wait() for job in again] == [0] * 2, [job.said() for job in again]
    assert sorted(log.read_text().split()) == sorted(f"k{n}" for n in range(KEYS)), \
        (len(done), [job.said() for job in jobs + again])
    tried(f"keys shared by processes on two mounts of {part.title}", KEYS)


@pytest.mark.parametrize("timeout", ["heartbeat", "3"])
def test_one_that_is_frozen_is_refused(part: Part, machines: list[Namespace], keys: Path, tmp_path: Path, timeout: str,
                                       tried: Tried) -> None:
    frozen, other = machines
    log = tmp_path / "log"
    job = start(frozen, keys, "hold", log, "k", timeout)
    wait_for(lambda: log.exists(), 60)
    frozen.freeze()
    rescuer = start(other, keys, "persist", tmp_path / "rescued", "k")
    assert rescuer.wait() == 0, rescuer.said()
    frozen.thaw()
    log.with_suffix(".go").touch()
    assert job.wait() == 0, job.said()
    assert log.read_text().splitlines()[-1].startswith("ClaimLost"), log.read_text()
    assert (tmp_path / "rescued").read_text() == "done 2\n"
    tried(f"owners frozen on a mount of {part.title}, and refused when they woke", 1)
