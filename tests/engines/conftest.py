"""The cluster and the ssh hosts, each started once."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.support import Cluster, Hosts
from tests.hosts.conftest import part

PARTS = Path(__file__).resolve().parent / "parts"
NODES = HOSTS = 3


@pytest.fixture(scope="session")
def slurm_part(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm") / "d"
    with part(str(PARTS / "slurm.sh"), folder, {"slurmctld", "slurmd", "slurm-client"}, NODES,
              PORT=str(free_ports(NODES + 1))) as started:
        yield Cluster(started, NODES)


@pytest.fixture
def cluster(slurm_part: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """As a test finds and leaves it: all nodes up, and no job."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_part.part.folder / "slurm.conf"))
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin")
    yield slurm_part
    slurm_part.clean()


@pytest.fixture(scope="session")
def ssh_part(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[Hosts]:
    with part(str(PARTS / "ssh.sh"), tmp_path_factory.mktemp("ssh") / "d",
              {"openssh-server", "openssh-client", "iproute2", "netcat-openbsd"}, HOSTS) as started:
        yield Hosts(started, HOSTS)


@pytest.fixture
def hosts(ssh_part: Hosts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """As a test finds and leaves them: up, and on the network."""
    monkeypatch.setenv("RUNFORREST_SSH", ssh_part.program)
    yield ssh_part
    ssh_part.clean()


def free_ports(number: int) -> int:
    """The first of so many free ports in a row, above those that are given out by themselves."""
    for _ in range(100):
        first = random.randrange(10_000, 30_000)
        try:
            for port in range(first, first + number):
                with socket.socket() as free:
                    free.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    pytest.fail("no free ports")
