"""Runners on hosts with kernels of their own, on one kernel NFS server: hard mounts, default caching.

Each scenario has a list on an NFSv3 mount and one on an NFSv4.2 mount at the same time, and so two runners
on each host: what happens to a host or to the server happens to both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import wait_for
from tests.hosts import work
from tests.hosts.lists import SharedList, assert_one_after_the_other, check_finished, leftovers
from tests.hosts.machines import RUNFORREST, Host, Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Tried = Callable[[str, int], None]
MOUNTS = [Path("/mnt/v3"), Path("/mnt/v4.2")]
BEAT, LEASE = 0.5, 12               # 6 s; a host here is slow, and stands still now and then
LONG = 8.0                          # seconds; a task that is at work when a lease ends
ENDLESS = 200.0                     # … that is told when it is enough
SLOTS = 2
FENCED = 3                          # exit code


def lists_at(hosts: list[Host], beat: float, lease: int) -> Iterator[list[SharedList]]:
    """Empty ones, on both mounts, for as long as they are needed."""
    made = [SharedList(hosts[1], mount, beat, lease) for mount in MOUNTS]
    yield made
    for each in made:
        each.remove()


@pytest.fixture
def lists(hosts: list[Host]) -> Iterator[list[SharedList]]:
    """Whose runners are missed soon."""
    yield from lists_at(hosts, BEAT, LEASE)


@pytest.fixture
def calm(hosts: list[Host]) -> Iterator[list[SharedList]]:
    """Whose runners may stand still for half a minute, where nobody is to be missed."""
    yield from lists_at(hosts, BEAT, 60)


@pytest.fixture
def steady(hosts: list[Host]) -> Iterator[list[SharedList]]:
    """Whose lease of 12 s is over while tasks of 15 s are at work."""
    yield from lists_at(hosts, BEAT, 24)


@pytest.fixture
def apart(hosts: list[Host]) -> Iterator[list[SharedList]]:
    """Of whose beats one or two lie between the end of who is cut off and the beginning elsewhere."""
    yield from lists_at(hosts, 4 * BEAT, 8)


def filled(lists: list[SharedList], long: int, short: int, seconds: float = LONG) -> None:
    """Tasks that last longer than a lease, then quick ones."""
    for each in lists:
        each.schedule(work.tick, seconds, times=long).schedule(work.tick, 0.05, times=short).put()


def runners(host: Host, lists: list[SharedList]) -> list[Job]:
    return [host.runner(each.path, SLOTS) for each in lists]


def assert_all_end(jobs: list[Job], code: int = 0, seconds: float = 150) -> None:
    for job in jobs:
        assert job.wait(seconds) == code, job.said()


def await_begun(lists: list[SharedList], host: Host, number: int) -> None:
    for each in lists:
        each.await_begun(host.name, number)


def assert_fenced(jobs: list[Job], host: Host) -> None:
    """It said so, and nothing of it is left."""
    assert_all_end(jobs, FENCED)
    for job in jobs:
        assert "this runner stops, publishes nothing more and ends its tasks" in job.said()
        assert "Traceback" not in job.said(), job.said()
    left = host.ssh("ps -eo pid,args | grep '[r]unforrest' || true")
    assert left == "", left


def test_two_hosts_share_a_list(hosts: list[Host], calm: list[SharedList], tried: Tried) -> None:
    for shared in calm:
        shared.schedule(work.meet, 2, times=2 * SLOTS).schedule(work.tick, 0.02, times=30).put()
    assert_all_end(runners(hosts[1], calm) + runners(hosts[2], calm))
    for shared in calm:
        for host in hosts[1:]:
            result = check_finished(shared, host)
            assert set(result.published) == {"host2", "host3"} and not result.taken_over and not result.repeated
            assert leftovers(result.copy) == []
        tried(f"tasks run by two hosts on NFS{shared.path.parent.name}", shared.number)


def test_clocks_an_hour_and_a_year_off(hosts: list[Host], steady: list[SharedList], tried: Tried) -> None:
    """Nothing is taken from the living: the tasks last longer than the lease."""
    filled(steady, 2 * SLOTS, 4, 15.0)
    try:
        hosts[1].ssh("date -s '+1 hour'")
        hosts[2].ssh("date -s '-1 year'")
        assert_all_end(runners(hosts[1], steady) + runners(hosts[2], steady))
    finally:
        for host in hosts[1:]:
            host.ssh(f"date -s @{time.time():.0f}")
    for shared in steady:
        result = check_finished(shared, hosts[1])
        assert not result.taken_over and not result.repeated
        tried("tasks run on NFS while clocks were an hour and a year off", shared.number)


def test_a_frozen_host_is_fenced_when_it_wakes(hosts: list[Host], lists: list[SharedList], tried: Tried) -> None:
    _, frozen, other = hosts
    filled(lists, SLOTS, 10)
    victims = runners(frozen, lists)
    await_begun(lists, frozen, SLOTS)
    frozen.freeze()
    assert_all_end(runners(other, lists))
    before = [check_finished(shared, other) for shared in lists]
    frozen.thaw()
    assert_fenced(victims, frozen)
    for shared, earlier in zip(lists, before, strict=True):
        result = check_finished(shared, other)
        assert result.published == earlier.published, "the frozen host has published something"
        assert result.taken_over == SLOTS
    tried("hosts frozen past their lease and thawed", 1)


def test_a_host_that_is_cut_off_ends_its_tasks_first(hosts: list[Host], apart: list[SharedList], tried: Tried) -> None:
    """The traces that tasks leave on the host's own disk tell: the one is dead before the other begins."""
    _, off, other = hosts
    filled(apart, SLOTS, 10, ENDLESS)
    victims = runners(off, apart)
    await_begun(apart, off, SLOTS)
    rescuers = runners(other, apart)
    await_begun(apart, other, 10)
    off.cut()
    await_begun(apart, other, 10 + SLOTS)
    for shared in apart:
        shared.enough()
    off.heal()
    assert_all_end(rescuers)
    assert_fenced(victims, off)
    for shared in apart:
        assert check_finished(shared, off).taken_over == SLOTS
        assert_one_after_the_other(shared, off, other)
    tried("hosts cut from the network and healed", 1)


def test_a_host_without_power(hosts: list[Host], lists: list[SharedList], tried: Tried) -> None:
    _, off, other = hosts
    filled(lists, SLOTS, 10)
    runners(off, lists)
    await_begun(lists, off, SLOTS)
    off.power_off()
    assert_all_end(runners(other, lists))
    off.boot()
    again = [SharedList(off, mount, BEAT, LEASE) for mount in MOUNTS]
    filled(again, 0, 10)
    assert_all_end(runners(off, again))
    for shared in lists:
        assert check_finished(shared, off).taken_over == SLOTS
    for shared in again:
        check_finished(shared, other)
        shared.remove()
    tried("hosts that lost their power", 1)


@pytest.fixture
def patient(hosts: list[Host]) -> Iterator[list[SharedList]]:
    """Lists with the settings that a shared filesystem gets by default."""
    made = [SharedList(hosts[1], mount) for mount in MOUNTS]
    for each in made:
        each.schedule(work.tick, 0.3, times=40).put()
    yield made
    for each in made:
        each.remove()


def _at_work(hosts: list[Host], lists: list[SharedList]) -> list[Job]:
    jobs = [job for host in hosts[1:] for job in runners(host, lists)]
    for host in hosts[1:]:
        await_begun(lists, host, 4)
    return jobs


def _survived(hosts: list[Host], jobs: list[Job], lists: list[SharedList]) -> None:
    assert_all_end(jobs)
    for shared in lists:
        result = check_finished(shared, hosts[2])
        assert not result.taken_over and not result.repeated


def test_a_server_that_hangs_for_a_minute(hosts: list[Host], patient: list[SharedList], tried: Tried) -> None:
    jobs = _at_work(hosts, patient)
    hosts[0].freeze()
    time.sleep(60)
    hosts[0].thaw()
    _survived(hosts, jobs, patient)
    tried("file servers that hung for a minute, runners that survived it", len(jobs))


def test_a_server_that_loses_its_power(hosts: list[Host], patient: list[SharedList], tried: Tried) -> None:
    jobs = _at_work(hosts, patient)
    hosts[0].power_off()
    hosts[0].boot()
    _survived(hosts, jobs, patient)
    tried("file servers that lost their power, runners that survived it", len(jobs))


def test_a_runner_on_the_server_itself(hosts: list[Host], steady: list[SharedList], tried: Tried) -> None:
    """To it the folder is a local disk, where another boot would mean the machine's own past."""
    server, client, _ = hosts
    filled(steady, 2 * SLOTS, 4, ENDLESS)
    jobs = runners(client, steady)
    await_begun(steady, client, SLOTS)
    jobs += [server.runner(Path("/mnt/export", each.path.name), SLOTS) for each in steady]
    await_begun(steady, server, SLOTS)
    time.sleep(15)
    for each in steady:
        each.enough()
    assert_all_end(jobs)
    for shared in steady:
        result = check_finished(shared, client, torn=True)
        assert set(result.published) == {"host1", "host2"} and not result.taken_over and not result.repeated
    tried("runners on a file server together with runners on its client", len(jobs) // 2)


def test_the_settings_of_a_list_that_is_made_there(hosts: list[Host]) -> None:
    """Boots differ, so none proves another dead; as with cloned machines, the machine-id is the same."""
    facts = ("from runforrest.folder import identity; from runforrest import TaskList; import sys, json, os\n"
             "TaskList(sys.argv[1]); found = json.load(open(sys.argv[1] + '/runforrest.json'))\n"
             "print(identity.is_local(sys.argv[1]), found['beat'], found['lease'], identity.boot_id())")
    jobs = [hosts[k].python(facts, f"{mount}/made-by-{k}-on-{mount.name}") for k in (1, 2) for mount in MOUNTS]
    told = [job.output().split() for job in jobs]
    assert {tuple(each[:3]) for each in told} == {("False", "15.0", "8")}
    assert len({each[3] for each in told}) == 2
    hosts[1].ssh("rm -r /mnt/v3/made-by-*")


def test_programs_on_another_host_add_lines_to_a_batch(hosts: list[Host], tried: Tried) -> None:
    """Each by an append of its own, which no other one's may overwrite."""
    adds = ("import sys, time; from runforrest.batch import DisBatcher\n"
            "batch, who = DisBatcher(kvsserver=sys.argv[1]), sys.argv[2]\n"
            "for n in range(5): batch.submit([f'echo {who}.{n}.{part}' for part in 'abc'])\n")
    waits = ("import sys; from runforrest.batch import DisBatcher\n"
             "batch = DisBatcher(kvsserver=sys.argv[1]); found = batch.syncTasks(range(45)); batch.done()\n"
             "print(*(found[n]['OutData'].strip() for n in range(45)))")
    prefixes = [str(mount / f"added-{mount.name}") for mount in MOUNTS]
    batches = [hosts[1].start([*RUNFORREST, "batch", "--taskserver", "-s", "localhost:2", "-p", prefix])
               for prefix in prefixes]
    wait_for(lambda: all("Lines are taken" in (job.folder / "out").read_text() for job in batches), 60)
    adding = [hosts[host].python(adds, prefix, f"{host}{which}")
              for prefix in prefixes for host, which in ((1, "x"), (2, "y"), (2, "z"))]
    assert_all_end(adding)
    waiting = [hosts[2].python(waits, prefix) for prefix in prefixes]
    assert_all_end(waiting + batches)
    for job in waiting:
        found = job.output().split()
        assert sorted(found) == sorted(f"{who}.{n}.{part}" for who in ("1x", "2y", "2z") for n in range(5)
                                       for part in "abc")
        assert all(found[at][-1] + found[at + 1][-1] + found[at + 2][-1] == "abc" for at in range(0, 45, 3)), found
    tried("lines added to a batch by programs on two hosts", 90)
    hosts[1].ssh("rm -r /mnt/v3/added-*")
