"""Both stores, for tests that must hold for each; the server is started once."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runforrest.once import settings, stores
from runforrest.once.folder import FolderStore
from runforrest.once.model import KeyStore
from tests.hosts.conftest import REQUIRED
from tests.hosts.machines import Missing, Part

PARTS = Path(__file__).resolve().parent / "parts"
HEART = "runforrest-once-heart"
BEAT, LEASE = 0.25, 8              # so that a test need not wait for long


class Server(Part):
    """A real server, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(PARTS / "redis.sh"), folder)

    def url(self, prefix: str) -> str:
        return f"redis://127.0.0.1:{(self.folder / 'port').read_text().strip()}/0?prefix={prefix}"


def give_up(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but: {reason}")
    pytest.skip(reason)


def needs_redis() -> None:
    """Skip, or fail where it is required, if there is no Redis here."""
    pytest.importorskip("redis")
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    if shutil.which("redis-server", path=path) is None:
        give_up("needs redis-server: python tests/install.py")


@pytest.fixture(autouse=True)
def few_folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that fast tests make have 32 folders: hundreds of tests would make half a million."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(settings, "SHARDS", 16)


@pytest.fixture(autouse=True)
def no_heart_left() -> Iterator[None]:
    """Stores that were opened are closed; those that a test has made are its own to close."""
    before, threads = set(stores._open), set(threading.enumerate())
    yield
    for each in set(stores._open) - before:
        stores._open.pop(each).close()
    for thread in set(threading.enumerate()) - threads:
        if thread.name == HEART:
            thread.join(30)             # it is told to end, and not waited for
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def server(no_process_left: None) -> Iterator[Server]:
    """In memory, where there is such a thing: each change is forced to disk."""
    needs_redis()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="runforrest-test-", dir=memory) as folder:
        try:
            started = Server(Path(folder) / "d")
        except Missing as error:
            give_up(str(error))
        yield started
        started.stop()


@pytest.fixture(params=["folder", "redis"])
def address(request: pytest.FixtureRequest, tasklist_dir: Path) -> str:
    """Of a store with nothing in it."""
    if request.param == "folder":
        return str(tasklist_dir)
    server: Server = request.getfixturevalue("server")
    return server.url(uuid.uuid4().hex)


def opened(address: str) -> KeyStore:
    """The store, with hearts that beat fast."""
    if "://" in address:
        from runforrest.once.redisstore import RedisStore
        return RedisStore(address, beat=BEAT, lease=LEASE)
    made = FolderStore(address)
    made.hearts.beat, made.hearts.lease = BEAT, LEASE
    made.hearts._reset()
    return made


@pytest.fixture
def store(address: str) -> Iterator[KeyStore]:
    made = opened(address)
    yield made
    made.close()


@pytest.fixture
def other(address: str, store: KeyStore) -> Iterator[KeyStore]:
    """The same store, opened once more, with a heart of its own: as another process would have it."""
    made = opened(address)
    yield made
    made.close()


@pytest.fixture
def keys(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KeyStore]:
    """The store that holds where none is named."""
    monkeypatch.setenv(stores.VARIABLE, address)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(stores, "PATIENCE", 5.0)
    made = stores.store()
    yield made
    stores._open.pop((os.getpid(), *made.given))
    made.close()
