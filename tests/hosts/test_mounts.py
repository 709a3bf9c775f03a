"""Two mounts of one GlusterFS volume, or of one folder by sshfs, each with its own runner.

The runners are in namespaces of their own: neither sees the processes of the other, and both have the same pid.  Each
mount has a network cable of its own to the server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import wait_for
from tests.hosts import work
from tests.hosts.lists import SharedList, assert_one_after_the_other, check_finished, leftovers
from tests.hosts.machines import Namespace, Part

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Tried = Callable[[str, int], None]
BEAT, LEASE = 0.5, 8                # 4 s
ENDLESS = 200.0                     # … that is told when it is enough
SLOTS = 2
FENCED = 3                          # exit code
ALL = ["gluster", "gluster_replica", "sshfs"]
FACTS = """
import json, sys
from runforrest import TaskList
from runforrest.folder import identity
TaskList(sys.argv[1])
settings = json.load(open(sys.argv[1] + "/runforrest.json"))
print(json.dumps([identity.filesystem_type(sys.argv[1]), identity.is_local(sys.argv[1]), settings["beat"],
                  settings["lease"]]))
"""


@pytest.fixture(params=["gluster", "sshfs"])
def part(request: pytest.FixtureRequest) -> Part:
    found: Part = request.getfixturevalue(request.param)
    return found


def two(part: Part, scratch: Path, names: tuple[str, str]) -> list[Namespace]:
    shared = part.folder / "shared"
    shared.mkdir(exist_ok=True)
    return [Namespace(name, scratch / str(k), part.folder / f"mnt{k}", shared) for k, name in enumerate(names, 1)]


@pytest.fixture
def machines(part: Part, tmp_path: Path) -> Iterator[list[Namespace]]:
    made = two(part, tmp_path, ("east", "west"))
    yield made
    for k, each in enumerate(made, 1):
        part("heal", k)
        each.clean()


@pytest.fixture
def shared(machines: list[Namespace]) -> SharedList:
    return SharedList(machines[0], machines[0].shared, BEAT, LEASE)


@pytest.mark.parametrize("part", ALL, indirect=True)
def test_two_mounts_share_a_list(part: Part, machines: list[Namespace], tried: Tried) -> None:
    shared = SharedList(machines[0], machines[0].shared, BEAT, 10 * LEASE)      # nobody is to be missed
    shared.schedule(work.meet, 2, times=2 * SLOTS).schedule(work.tick, 0.01, times=100).put()
    jobs = [machine.runner(shared.path, SLOTS) for machine in machines]
    assert [job.wait() for job in jobs] == [0, 0], [job.said() for job in jobs]
    for machine in machines:
        result = check_finished(shared, machine)
        assert set(result.published) == {"east", "west"} and not result.taken_over and not result.repeated
        assert leftovers(result.copy) == []
    tried(f"tasks run by two runners on two mounts of {part.title}", shared.number)


@pytest.mark.parametrize("part", ALL, indirect=True)
def test_one_that_is_frozen_is_fenced(part: Part, machines: list[Namespace], shared: SharedList,
                                      tried: Tried) -> None:
    frozen, other = machines
    shared.schedule(work.tick, ENDLESS, times=SLOTS).schedule(work.tick, 0.01, times=40).put()
    victim = frozen.runner(shared.path, SLOTS)
    shared.await_begun(frozen.name, SLOTS)
    below = frozen.processes()
    frozen.freeze()
    rescuer = other.runner(shared.path, SLOTS)
    shared.await_begun(other.name, 40 + SLOTS)
    shared.enough()
    assert rescuer.wait() == 0, rescuer.said()
    before = check_finished(shared, other)
    frozen.thaw()
    assert victim.wait() == FENCED, victim.said()
    assert "this runner stops, publishes nothing more and ends its tasks" in victim.said()
    assert "Traceback" not in victim.said(), victim.said()
    wait_for(lambda: not any(each.is_running() for each in below), what="nothing of it is left")
    after = check_finished(shared, other)
    assert after.published == before.published and after.taken_over == SLOTS
    tried("runners on mounts frozen past their lease and thawed", 1)


@pytest.mark.parametrize("part", ALL, indirect=True)
def test_one_that_is_cut_off_ends_its_tasks_first(part: Part, machines: list[Namespace], tried: Tried) -> None:
    """The traces that tasks leave elsewhere tell: the one is dead before the other begins."""
    off, other = machines
    shared = SharedList(off, off.shared, 4 * BEAT, LEASE)       # one or two beats lie between the two
    shared.schedule(work.tick, ENDLESS, times=SLOTS).schedule(work.tick, 0.05, times=10).put()
    victim = off.runner(shared.path, SLOTS)
    shared.await_begun(off.name, SLOTS)
    rescuer = other.runner(shared.path, SLOTS)
    shared.await_begun(other.name, 10)
    part("cut", 1)
    shared.await_begun(other.name, 10 + SLOTS)
    shared.enough()
    part("heal", 1)
    assert rescuer.wait() == 0, rescuer.said()
    assert victim.wait() == FENCED, victim.said()
    assert "this runner stops, publishes nothing more and ends its tasks" in victim.said()
    assert "Traceback" not in victim.said(), victim.said()
    assert check_finished(shared, off).taken_over == SLOTS
    assert_one_after_the_other(shared, off, other)
    tried("runners on mounts cut from the network and healed", 1)


def test_a_server_that_hangs_and_one_that_is_killed(part: Part, machines: list[Namespace], tried: Tried) -> None:
    """Shorter than the lease: the runners go on by themselves."""
    shared = SharedList(machines[0], machines[0].shared, 1.0, 40)
    shared.schedule(work.tick, 0.3, times=60).put()
    jobs = [machine.runner(shared.path, SLOTS) for machine in machines]
    for machine in machines:
        shared.await_begun(machine.name, 2)
    part("stall")
    time.sleep(5)
    part("resume")
    for machine in machines:
        shared.await_begun(machine.name, 8)
    part("restart")
    assert [job.wait() for job in jobs] == [0, 0], [job.said() for job in jobs]
    result = check_finished(shared, machines[1])
    assert not result.taken_over
    tried("file servers that hung and were killed, runners that survived it", len(jobs))


def test_the_same_host_name_and_pid_elsewhere(part: Part, tmp_path: Path, tried: Tried) -> None:
    """Nothing about a process elsewhere is concluded from pids here: only the lease tells that it is dead."""
    dead, living = two(part, tmp_path, ("node", "node"))
    shared = SharedList(dead, dead.shared, BEAT, 3 * LEASE).schedule(work.tick, 60.0, times=SLOTS).put()
    try:
        dead.runner(shared.path, SLOTS)
        shared.await_begun("node", SLOTS)
        dead.power_off()
        [gone] = _hearts(shared, living)
        living.runner(shared.path, SLOTS)
        wait_for(lambda: any(beats >= LEASE // 2 for runner, beats in _hearts(shared, living).items()
                             if runner != gone), 60)
        hearts = _hearts(shared, living)
        assert len(hearts) == 2 and gone in hearts and shared.begun("node") == SLOTS, hearts
        assert len({name.split(".")[1] for name in hearts}) == 1, "their pids"
        shared.await_begun("node", 2 * SLOTS)
    finally:
        dead.clean()
        living.clean()
    tried("runners of equal host name and pid told apart", 2)


def _hearts(shared: SharedList, machine: Namespace) -> dict[str, int]:
    """By runner: how often it has beaten."""
    found = (name.rpartition("@") for name in machine.run("ls", f"{shared.path}/.runforrest/hb").split())
    return {runner: int(number) for runner, _, number in found}


def test_what_the_filesystem_is_taken_for(part: Part, machines: list[Namespace]) -> None:
    for machine in machines:
        made = machine.shared / f"made-by-{machine.name}"
        kind, local, beat, lease = json.loads(machine.python(FACTS, str(made)).output())
        assert kind.startswith("fuse.") and not local and (beat, lease) == (15.0, 8)


def test_a_server_that_hangs_for_longer_than_the_lease(part: Part, machines: list[Namespace], shared: SharedList,
                                                       tried: Tried) -> None:
    """The runner ends its tasks, as others may take them; nobody does, so it goes on."""
    shared.schedule(work.tick, ENDLESS, times=SLOTS).schedule(work.tick, 0.01, times=10).put()
    job = machines[0].runner(shared.path, SLOTS)
    shared.await_begun("east", SLOTS)
    part("stall")
    wait_for(lambda: "its tasks are ended" in job.said(), 60)
    time.sleep(BEAT * LEASE)
    part("resume")
    shared.await_begun("east", 2 * SLOTS)
    shared.enough()
    assert job.wait() == 0, job.said()
    assert "nobody has taken over: going on" in job.said()
    result = check_finished(shared, machines[1])
    assert not result.taken_over and result.repeated == SLOTS
    tried("runners that ended their tasks while their server hung, and went on", 1)
