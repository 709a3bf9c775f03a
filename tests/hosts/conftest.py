"""Shared filesystems and hosts, each started once, and stopped before the check that no process is left.

What can't be had here is a skip that says why; where CI_REQUIRE_HOSTS is set it is a failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hosts.machines import ROOT, Host, Missing, Part
from tests.install import missing_packages

REQUIRED = "CI_REQUIRE_HOSTS"


@contextmanager
def part(script: str, folder: Path, packages: set[str], *arguments: object, **environment: str) -> Iterator[Part]:
    """The part, started; skips, or fails where it is required, if that is not possible."""
    try:
        started = Part(script, folder, *arguments, **environment) if _possible(packages) else None
    except Missing as error:
        _give_up(str(error))
    assert started is not None
    try:
        yield started
    finally:
        started.stop()


def _possible(packages: set[str]) -> bool:
    if os.geteuid() != 0:
        _give_up("needs root")
    if not sys.platform.startswith("linux"):
        _give_up("needs Linux")
    missing = packages.intersection(missing_packages())
    if missing:
        _give_up(f"needs {', '.join(sorted(missing))}: python tests/install.py")
    return True


def _give_up(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but: {reason}")
    pytest.skip(reason)


# Each of them depends on `no_process_left`, so that it is torn down before that check.

@pytest.fixture(scope="session")
def gluster(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[Part]:
    packages = {"glusterfs-server", "glusterfs-client", "iproute2"}
    with part("gluster.sh", tmp_path_factory.mktemp("gluster") / "d", packages, 2, "dist2") as started:
        yield started


@pytest.fixture(scope="session")
def gluster_replica(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[Part]:
    packages = {"glusterfs-server", "glusterfs-client", "iproute2"}
    with part("gluster.sh", tmp_path_factory.mktemp("replica") / "d", packages, 2, "replica3") as started:
        yield started


@pytest.fixture(scope="session")
def sshfs(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[Part]:
    packages = {"openssh-server", "openssh-client", "iproute2", "sshfs", "fuse3"}
    with part("sshfs.sh", tmp_path_factory.mktemp("sshfs") / "d", packages, 2) as started:
        yield started


@pytest.fixture(scope="session")
def uml(tmp_path_factory: pytest.TempPathFactory, no_process_left: None) -> Iterator[list[Host]]:
    """host1, the NFS server; host2 and host3, its clients."""
    packages = {"user-mode-linux", "kmod", "iproute2", "openssh-server", "openssh-client", "nfs-common",
                "nfs-kernel-server", "rpcbind", "e2fsprogs"}
    shown = {str(path) for path in (ROOT, sys.prefix, os.path.realpath(sys.base_prefix))}
    with part("uml.sh", tmp_path_factory.mktemp("uml") / "d", packages, 3, BIND=" ".join(sorted(shown))) as started:
        yield [Host(started, f"host{k}") for k in (1, 2, 3)]


@pytest.fixture
def hosts(uml: list[Host]) -> Iterator[list[Host]]:
    """The same, as a test finds and leaves them: up, on the network, and with nothing at work."""
    yield uml
    for host in uml:
        host.clean()
