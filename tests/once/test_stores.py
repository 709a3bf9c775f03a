"""Which store is used, how it is made, and what happens while it is in trouble."""

from __future__ import annotations

import errno
import json
import os
import pickle
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runforrest import TaskList, once
from runforrest.errors import FormatVersionError, InvalidArgument, UntrustedFolder
from runforrest.once import files, making, settings, stores
from runforrest.once.errors import KeyStoreError, RetryTimeoutError
from runforrest.once.folder import FolderStore
from runforrest.once.model import Condition
from runforrest.once.settings import KEYS, KeySettings
from tests.helpers import wait_for
from tests.hosts.machines import ROOT
from tests.once.conftest import Server

Tried = Callable[[str, int], None]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and nothing in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(stores.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o700)
    return tmp_path


# -- which one ---------------------------------------------------------------------------


def test_a_folder_in_the_current_one_is_the_default(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert once.store().url == str(home / "runforrest-keys")
    said = capfd.readouterr().err
    assert f"keys are in {home}/runforrest-keys; set RUNFORREST_KEYS" in said.replace("/private", "")
    assert once.store() is once.store() and not capfd.readouterr().err, "said once"


@pytest.mark.parametrize("where", [None, "keys"])
def test_a_program_that_changes_its_folder(home: Path, where: str | None) -> None:
    (home / "elsewhere").mkdir()
    for key in once.DistributedIterator(["a", "b", "c"], 100, store=where):
        os.chdir(home / "elsewhere")
        if key == "c":
            once.notify_failure(key)
        else:
            once.notify_success(pickle.loads(pickle.dumps(key)) if key == "a" else key)
    assert os.listdir() == [], "and leaves nothing there"
    os.chdir(home)
    with pytest.raises(RuntimeError), once.take("c", 100, store=where):  # type: ignore[union-attr]
        os.chdir("elsewhere")
        raise RuntimeError
    assert os.listdir() == []
    os.chdir(home)
    assert once.count_keys_by_prefix("", store=where) == {"expired": 0, "in_progress": 0, "success": 2}
    with pytest.raises(InvalidArgument, match="store must be a path"):
        once.take("a", store=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("text, url", [
    ("[DEFAULT]\naddress = 10.0.0.7\nport = 99\n", "redis://10.0.0.7:99/0"),
    ("[DEFAULT]\naddress=node1\n", "redis://node1:22113/0"),
    ("[DEFAULT]\nport=5\npassword=a%b@c\n", "redis://:a%25b%40c@127.0.0.1:5/0"),
    ("[OTHER]\naddress=node1\n", "redis://127.0.0.1:22113/0")])
def test_the_configuration_file_of_run_once(home: Path, text: str, url: str) -> None:
    (home / ".run_once.ini").write_text(text)
    assert stores.default() == url
    with_port = once.lock_service_client(port=7)
    assert with_port.given[0] == f"{url.rpartition(':')[0]}:7/0"
    assert once.lock_service_client("node2").given[0] == url.replace("node1", "node2").replace(
        "127.0.0.1", "node2").replace("10.0.0.7", "node2")


def test_a_configuration_file_that_is_none(home: Path) -> None:
    (home / ".run_once.ini").write_text("address = 1\n")
    with pytest.raises(KeyStoreError, match=r"it should have \[DEFAULT\], address and port"):
        stores.default()
    for text, said in (("port=abc", "'abc'"), ("port=", "''"), ("address=http://node1", "'http://node1'")):
        (home / ".run_once.ini").write_text(f"[DEFAULT]\n{text}\n")
        with pytest.raises(KeyStoreError, match=f"address must be a host, and port a number, .*{said}.*run_once.ini"):
            once.take("k")


def test_a_user_without_a_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with some number."""
    def unknown(uid: int) -> None:
        raise KeyError(uid)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert stores.default() == stores.DEFAULT_FOLDER and once.take("k", 100) is not None


def test_the_variable_counts_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".run_once.ini").write_text("[DEFAULT]\naddress=node1\n")
    monkeypatch.setenv(stores.VARIABLE, "~/there")
    assert once.store().url == str(home / "there")
    assert once.store(home / "elsewhere").url == str(home / "elsewhere"), "and an argument most"


def test_other_urls(home: Path) -> None:
    with pytest.raises(KeyStoreError, match="neither a folder nor the address of a Redis server: set RUNFORREST_KEYS"):
        once.open_store("http://localhost:22113")
    with pytest.raises(KeyStoreError, match="no address of a Redis server"):
        once.open_store("redis://host:port/0")
    for slip in ("redis:/host:22113", "redis:host:22113", "valkey:host", "redis://[::1/0"):
        with pytest.raises(KeyStoreError, match="no address of a Redis server"):
            once.take("k", store=slip)
    for prefix in ("a:b", ":"):
        with pytest.raises(KeyStoreError, match="no colon"):
            once.open_store(f"redis://host/0?prefix={prefix}")
    for slip, said in (("redis://host/zero", "number of a database"), ("redis://host/0?nonsense=1", "nonsense"),
                       ("redis://host/0?prefix=", "prefix must have a letter")):
        with pytest.raises(KeyStoreError, match=said):
            once.open_store(slip)
    assert os.listdir(home) == []


def test_without_the_package(home: Path) -> None:
    program = "import sys; sys.modules['redis'] = None; from runforrest import once; once.store('redis://localhost/0')"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "python -m pip install 'runforrest[redis]'" in ended.stderr


def test_what_is_loaded() -> None:
    program = ("import sys, runforrest; assert 'runforrest.once' not in sys.modules; import runforrest.once; "
               "assert not {'redis', 'dill', 'click', 'rich', 'concurrent.futures.process'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# -- making a folder ---------------------------------------------------------------------


def test_what_is_made(home: Path) -> None:
    made = FolderStore(home / "a" / "b")
    assert {p.name for p in Path(made.url).iterdir()} == {"runforrest.json", "keys", "values", "hearts", "tmp"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in [Path(made.url), *Path(made.url).rglob("*")])
    assert FolderStore(home / "a" / "b").settings == made.settings
    found = json.loads((home / "a/b/runforrest.json").read_text())
    assert found["kind"] == "keys" and found["format"] == 1 and found["durability"] == "normal"
    assert found["beat"] * found["lease"] == 120, "a call in C that holds Python's lock for long stops the heart"


def test_folders_that_are_something_else(home: Path) -> None:
    TaskList(home / "tasks")
    with pytest.raises(KeyStoreError, match="is a task list, not a folder of keys"):
        once.open_store(home / "tasks")
    (home / "full").mkdir()
    (home / "full" / "thesis.tex").touch()
    with pytest.raises(KeyStoreError, match="is not empty, and not a folder of keys"):
        once.open_store(home / "full")
    with pytest.raises(KeyStoreError, match="keys need a folder"):
        once.open_store(home / "full" / "thesis.tex")


@pytest.mark.parametrize("text, error, message", [
    ('{"kind":"keys","format":2}', FormatVersionError, "upgrade runforrest"),
    ('{"kind":"keys"', KeyStoreError, "is damaged"),
    ('{"kind":"keys","format":1,"shards":0}', KeyStoreError, "is damaged"),
    ('{"kind":"keys","format":1,"beat":"often"}', KeyStoreError, "is damaged"),
    ('[]', KeyStoreError, "is damaged")])
def test_settings_that_cannot_be_used(home: Path, text: str, error: type[Exception], message: str) -> None:
    made = FolderStore(home / "keys")
    (Path(made.url) / "runforrest.json").write_text(text)
    with pytest.raises(error, match=message):
        FolderStore(home / "keys")


def test_settings_from_later_versions_with_more_in_them(home: Path) -> None:
    made = FolderStore(home / "keys")
    file = Path(made.url) / "runforrest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "more": 1}))
    assert FolderStore(home / "keys").settings == made.settings
    with pytest.raises(InvalidArgument):
        KeySettings(durability="full")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
@pytest.mark.parametrize("what", ["", "runforrest.json", "keys", "values"])
def test_a_folder_of_others_is_refused(home: Path, what: str) -> None:
    made = FolderStore(home / "keys")
    path = Path(made.url, what)
    path.chmod(0o777)
    with pytest.raises(UntrustedFolder, match="can be written by its group and everybody"):
        FolderStore(home / "keys")
    path.chmod(0o700)
    os.chown(path, 12345, -1)
    with pytest.raises(UntrustedFolder, match="user 12345"):
        FolderStore(home / "keys")
    assert FolderStore(home / "keys", trust=True).look("k") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_value_of_somebody_else_is_not_read(home: Path) -> None:
    made = FolderStore(home / "keys")
    claim, _ = made.claim("k", 100.0, "me")
    assert claim is not None
    made.confirm(claim, b"value")
    [value] = (home / "keys" / "values").glob("*/*")
    os.chown(value, 12345, -1)
    with pytest.raises(PermissionError, match="it can be written by its owner"):
        made.value("k")


def test_a_folder_for_a_group(home: Path) -> None:
    made = FolderStore(home / "keys", group=True)
    claim, _ = made.claim("k", None, "me")
    assert claim is not None
    made.confirm(claim, b"value")
    modes = {p.relative_to(home / "keys").parts[0]: oct(p.stat().st_mode & 0o777) for p in (home / "keys").rglob("*")
             if not p.is_symlink()}
    assert modes == {"runforrest.json": "0o640", "keys": "0o660", "values": "0o660", "hearts": "0o660",
                     "tmp": "0o770"}
    assert FolderStore(home / "keys").settings.group
    made.close()


def test_a_key_takes_the_trust_of_its_store_with_it(home: Path) -> None:
    (home / "keys").mkdir()
    (home / "keys").chmod(0o777)
    with pytest.raises(UntrustedFolder):
        once.open_store(home / "keys")
    made = once.open_store(home / "keys", trust=True)
    twin = pickle.loads(pickle.dumps(once.take("k", 100.0, store=made)))
    once.notify_success(twin)
    entry = made.look("k")
    assert entry is not None and entry.condition is Condition.DONE
    made.close()


# -- filesystems that lack something -----------------------------------------------------


class NoLinks(files.KeyFiles):
    """As a filesystem without symbolic links."""

    def before(self, operation: str, *args: object) -> None:
        if operation == "symlink":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_filesystem_without_symbolic_links(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "KeyFiles", NoLinks)        # nor has the folder above any
    with pytest.raises(KeyStoreError, match="has no symbolic links: choose another one"):
        FolderStore(home / "keys", fs=NoLinks(home / "keys"))
    assert not (home / "keys" / settings.SETTINGS).exists()


def test_a_filesystem_that_knows_no_capitals(home: Path) -> None:
    store = FolderStore(home / "keys")
    file = home / "keys" / settings.SETTINGS
    file.write_text(json.dumps({**json.loads(file.read_text()), "fold": True}))
    store = FolderStore(home / "keys")
    for key in ("Key", "key", "KEY"):
        assert store.claim(key, 100.0, "me")[0]
    assert sorted(e.key for e in store.entries("")) == ["KEY", "Key", "key"]
    assert len({p.name.lower() for p in (home / "keys" / KEYS).glob("*/*") if "~" not in p.name}) == 3


def test_a_copy_of_a_folder_of_keys(home: Path) -> None:
    store = FolderStore(home / "keys")
    for n in range(10):
        claim, _ = store.claim(f"k{n}", 0.001, "me")
        assert claim is not None
        if n % 2:
            store.confirm(claim, b"value")
    subprocess.run(["cp", "-r", home / "keys", home / "copy"], check=True)
    copy = FolderStore(home / "copy", trust=True)
    assert sum(e.condition.success for e in copy.entries("k")) == 5 and copy.value("k7") == b"value"
    assert copy.claim("k7", 100.0, "you")[0] is None and copy.claim("k6", 100.0, "you", force=True)[0]


class ReadOnly(files.KeyFiles):
    """As a filesystem that is mounted for reading only."""

    def before(self, operation: str, *args: object) -> None:
        if operation not in ("listdir", "open", "exists", "readlink"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_keys_can_be_looked_at_where_nothing_can_be_written(home: Path) -> None:
    store = FolderStore(home / "keys")
    for key, timeout in (("long", 100.0), ("short", 0.001), ("done", 100.0)):
        claim, _ = store.claim(key, timeout, "me")
    assert claim is not None
    store.confirm(claim, b"value")
    subprocess.run([sys.executable, "-c", "import os, sys; from runforrest import once; "
                    "once.take('dead', heartbeat=True, store=sys.argv[1]); os._exit(0)", home / "keys"], check=True)
    looking = FolderStore(home / "keys", fs=ReadOnly(home / "keys"))
    wait_for(lambda: once.count_keys_by_prefix("", store=looking) == {"expired": 1, "in_progress": 2, "success": 1})
    assert once.search_keys_by_prefix("s", is_expired=True, store=looking) == ["short"]
    assert looking.value("done") == b"value"
    with pytest.raises(OSError, match="Read-only"):
        looking.claim("short", 1.0, "you")
    looking.close()
    store.close()


class TwiceInTrouble(files.KeyFiles):
    """An anchor is made, the reply is lost, and who asks whose it is gets no answer; listings may be old then."""

    left = old = 0

    def scan(self, name: str, folders: bool = True) -> Iterator[str]:
        if self.left or not self.old:
            return super().scan(name, folders)
        self.old -= 1
        return iter(())

    def after(self, operation: str, *args: object) -> None:
        self._fail(operation, "symlink")

    def before(self, operation: str, *args: object) -> None:
        self._fail(operation, "readlink")

    def _fail(self, operation: str, which: str) -> None:
        if operation == which and self.left:
            self.left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_two_errors_in_a_row(home: Path) -> None:
    """The key is this process's, and it gets it when it asks again."""
    fs = TwiceInTrouble(home / "keys")
    store = FolderStore(home / "keys", fs=fs)
    fs.left = 2
    with pytest.raises(OSError):
        store.claim("k", 100.0, "me")
    claim, _ = store.claim("k", 100.0, "me")
    assert claim is not None and claim.token == 1
    assert FolderStore(home / "keys").claim("k", 100.0, "you")[0] is None


@pytest.mark.parametrize("taken", [False, True])
def test_a_claim_that_can_not_be_seen_after_errors(home: Path, taken: bool) -> None:
    """Who was not told that it has a key does not take it for another's, unless it has become that."""
    fs = TwiceInTrouble(home / "keys")
    store = FolderStore(home / "keys", fs=fs)
    fs.left, fs.old = 2, 1
    with pytest.raises(OSError):
        store.claim_any(["k"], 0.001 if taken else 100.0, "me")
    if taken:
        other = FolderStore(home / "keys")
        wait_for(lambda: other.claim("k", 100.0, "you")[0])
        with pytest.raises(OSError, match="can't be seen"):
            store.claim_any(["k"], 100.0, "me")
    claim, _, _ = store.claim_any(["k"], 100.0, "me")
    if taken:
        assert claim is None
    else:
        assert claim is not None and claim.token == 1
        store.confirm(claim)
    assert len(list((home / "keys" / KEYS).glob("*/k~*"))) == 1


def test_a_lease_that_ends_between_the_look_and_the_claim(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = FolderStore(home / "k"), FolderStore(home / "k")
    assert one.claim("k", 1000.0, "me")[0] is not None
    now = two.tree.now
    times = iter([0, 2000])             # seconds from now, look by look
    monkeypatch.setattr(two.tree, "now", lambda: now() + next(times) * 10**9)
    taken, before = two.claim("k", 1000.0, "you")
    assert taken is not None and before is not None
    assert (before.condition, before.owner) == (Condition.EXPIRED, "me")
    assert next(times, None) is None


def test_a_listing_that_shows_only_what_does_not_count(home: Path) -> None:
    """The state file that counts was renamed while the folder was listed."""
    store = FolderStore(home / "keys")
    store.claim("k", 100.0, "me")
    [state] = (home / "keys" / KEYS).glob("*/k~*")
    parts = state.name.split("~")
    state.rename(state.with_name("~".join([parts[0], "orphaned", "1", "tag", "F", "you"])))
    assert store.claim("k", 100.0, "you")[0] is None and store.look("k") is None


def test_a_key_whose_state_somebody_has_removed(home: Path) -> None:
    store = FolderStore(home / "keys")
    store.claim("k", 100.0, "me")
    for state in (home / "keys" / KEYS).glob("*/k~*"):
        state.unlink()
    assert store.claim("k", 100.0, "you")[0] is None, "it is not given to two"
    store.forget("k")
    assert store.claim("k", 100.0, "you")[0]


# -- trouble -----------------------------------------------------------------------------


def test_a_store_in_trouble_is_asked_again(monkeypatch: pytest.MonkeyPatch,
                                           capfd: pytest.CaptureFixture[str]) -> None:
    left = [errno.EIO, errno.ESTALE]

    def call() -> str:
        if left:
            raise OSError(left.pop(), "trouble")
        return "answer"
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.001)
    assert stores.patiently(call, "asking") == "answer"
    assert capfd.readouterr().err.count("asking: [Errno") == 2


def test_and_then_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def call() -> None:
        raise OSError(errno.EIO, "trouble")
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.001)
    with pytest.raises(RetryTimeoutError, match=r"asking: the store of keys can't be reached: .*trouble"):
        stores.patiently(call, "asking", patience=0.1)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ELOOP])
def test_what_does_not_pass_is_raised_at_once(code: int) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise OSError(code, "trouble")
    with pytest.raises(OSError) as caught:
        stores.patiently(call, "asking")
    assert caught.value.errno == code and calls == [1]


def test_a_server_that_is_killed_and_comes_back(server: Server, monkeypatch: pytest.MonkeyPatch,
                                                tried: Tried) -> None:
    """Nothing that was answered is lost; a report that met a dead server is sent again."""
    url = server.url("killed")
    number, claims = 20, []
    for n in range(number):
        claims.append(once.take(f"k{n}", 1000, store=url))
        if n % 5 == 0:
            server("kill")
            assert claims[-1] is not None
            restarted = subprocess.Popen(["sh", "-c", f"sleep 0.3; exec bash {server.script} restart {server.folder}"],
                                         stdout=subprocess.DEVNULL)
            once.notify_success(claims[-1], store=url)
            assert restarted.wait() == 0
        else:
            once.notify_success(claims[-1], store=url)  # type: ignore[arg-type]
    assert once.count_keys_by_prefix("k", store=url) == {"expired": 0, "in_progress": 0, "success": number}
    assert list(once.DistributedIterator([f"k{n}" for n in range(number)], store=url)) == []
    once.store(url).close()
    tried("servers killed and started again between two keys", number // 5)


def test_a_server_with_a_socket_file(server: Server, tmp_path: Path) -> None:
    """Its clients need not reach a port."""
    import redis
    folder = tmp_path / "d"
    folder.mkdir(0o700)
    process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", folder / "sock", "--dir", folder,
                                "--save", "", "--requirepass", "secret"], stdout=subprocess.DEVNULL,
                               env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"})
    try:
        wait_for((folder / "sock").exists)
        url = f"unix://:secret@{folder}/sock?prefix=p"
        with once.take("k", 100, store=url) as key:  # type: ignore[union-attr]
            key.value = {1, 2}
        place = once.store(url)
        assert once.conditions_of(["k"], store=f"{url}&decode_responses=True") == {"k": once.Condition.DONE}
        assert once.value_of("k", store=url) == {1, 2} and place.url == f"unix://{folder}/sock?prefix=p"
        assert redis.Redis(unix_socket_path=str(folder / "sock"), password="secret").exists("p:k")
        place.close()
    finally:
        process.kill()
        process.wait()


def test_a_server_that_hangs(server: Server, monkeypatch: pytest.MonkeyPatch,
                             capfd: pytest.CaptureFixture[str]) -> None:
    from runforrest.once import redisstore
    monkeypatch.setattr(redisstore, "TIMEOUT", 0.2)
    url = server.url("hangs")
    key = once.take("k", 1000, store=url)
    assert key is not None
    server("stall")
    resumed = subprocess.Popen(["sh", "-c", f"sleep 3; exec bash {server.script} resume {server.folder}"])
    once.notify_success(key, value=1, store=url)
    assert resumed.wait() == 0
    assert once.value_of("k", store=url) == 1
    assert "trying again" in capfd.readouterr().err
    once.store(url).close()


def test_a_server_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As run-once's own, which its configuration file may name."""
    pytest.importorskip("redis")
    monkeypatch.setattr(stores, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return
        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(RetryTimeoutError, match="is there a Redis server"):
            once.take("k", 10, store=f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PATIENCE", 0.3)
    pytest.importorskip("redis")
    with pytest.raises(RetryTimeoutError, match="claiming 'k': the store of keys can't be reached"):
        once.take("k", 10, store="redis://127.0.0.1:1/0")


def test_claims_whose_reply_was_lost(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has done it, the connection was cut: asked again, the key is granted, not refused."""
    from runforrest.once.model import Unreachable
    from runforrest.once.redisstore import RedisStore
    store = RedisStore(server.url("lost"))
    run, failing = store.run, [True, True, True]

    def lossy(script: str, *args: object) -> object:
        answer = run(script, *args)  # type: ignore[arg-type]
        if failing and script in ("CLAIM", "END"):
            failing.pop()
            raise Unreachable("cut")
        return answer
    monkeypatch.setattr(store, "run", lossy)
    for timeout in (100, 0.0):
        key = once.take(f"k{timeout}", timeout, store=store)
        assert key is not None and key.token == 1
    failing.append(True)
    with pytest.raises(Unreachable):
        store.claim("mine", 100, "this thread")
    assert store.claim("other", 100, "another thread")[0] is not None
    assert store.claim("mine", 100, "this thread")[0] is not None
    failing.append(True)
    with once.take("j", heartbeat=True, store=store) as key:  # type: ignore[union-attr]
        failing.append(True)
        key.value = 1
    assert once.value_of("j", store=store) == 1
    store.close()
