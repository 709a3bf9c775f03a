"""File operations: what they refuse, what they leave behind when the disk fails, and who hears of them."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runforrest.folder import fsio
from runforrest.folder.fsio import FileOps

from .support import Failing, Recording


@pytest.fixture
def fs(tmp_path: Path) -> FileOps:
    return FileOps(tmp_path)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")


# -- what it does ----------------------------------------------------------------------------


def test_create_append_read(fs: FileOps) -> None:
    fs.create("x", [b"one ", b"two "], force=True)
    fs.append("x", [b"three"])
    assert fs.read("x") == b"one two three"
    fs.append("x", [b"!"], cut=3)
    assert fs.read("x") == b"one!"
    assert os.stat(fs.path("x")).st_mode & 0o777 == 0o600


def test_create_does_not_replace(fs: FileOps) -> None:
    fs.create("x", [b"one"])
    with pytest.raises(FileExistsError):
        fs.create("x", [b"two"])
    assert fs.read("x") == b"one"


def test_append_does_not_create(fs: FileOps) -> None:
    with pytest.raises(FileNotFoundError):
        fs.append("x", [b"one"])
    assert os.listdir(fs.root) == []


def test_entries_of_what_is_no_folder(fs: FileOps) -> None:
    fs.mkdir("d")
    fs.create("d/b", [])
    fs.create("d/a", [])
    os.symlink(fs.path("d"), fs.path("link"))
    assert [fs.entries(name) for name in ("d", "no", "no/no", "d/a", "link")] == [["a", "b"], [], [], [], []]


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOTCONN])
def test_entries_of_a_folder_in_trouble(tmp_path: Path, code: int) -> None:
    """It is not empty: nobody may conclude from it that there is nothing to do."""
    fs = Failing(tmp_path, OSError(code, os.strerror(code)), lambda operation, *args: operation == "listdir")
    with pytest.raises(OSError, match=os.strerror(code)):
        fs.entries("")


def test_force_file_is_not_for_files_of_others(fs: FileOps) -> None:
    fs.create("x", [b"one"])
    fs.force_file("x")
    fs.force_file("x", anew=True)
    assert fs.read("x") == b"one"
    os.link(fs.path("x"), fs.path("y"))
    for call in (lambda: fs.force_file("x"), lambda: fs.append("x", [b"two"])):
        with pytest.raises(PermissionError):
            call()


def test_unlink_of_nothing_is_fine(fs: FileOps) -> None:
    fs.unlink("x")


def test_listings_leave_out_what_is_the_systems(fs: FileOps) -> None:
    for name in ("b", "a", ".nfs0001", ".hidden", ".fuse_hidden1"):
        fs.create(name, [])
    fs.mkdir("c")
    assert fs.listdir("") == ["a", "b", "c"]
    assert sorted(fs.scan("", folders=False)) == ["a", "b"]


def test_exists(fs: FileOps) -> None:
    fs.create("x", [])
    fs.mkdir("d")
    os.symlink("nowhere", fs.path("l"))
    assert fs.exists("x") and fs.exists("d") and fs.exists("l")
    assert not fs.exists("y") and not fs.exists("no/y") and not fs.exists("x/y") and not fs.exists("y" * 300)


def test_exists_does_not_take_an_error_for_an_absence(fs: FileOps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in trouble must not read as 'taken over by somebody else'."""
    fs.create("x", [])

    def fails(code: int, times: int) -> None:
        left = [times]

        def lstat(path: str) -> os.stat_result:
            if left[0]:
                left[0] -= 1
                raise OSError(code, "trouble", path)
            return os.stat(path, follow_symlinks=False)
        monkeypatch.setattr(fsio.os, "lstat", lstat)

    for code in (errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.ENOTCONN):
        fails(code, 1)
        with pytest.raises(OSError, match="trouble"):
            fs.exists("x")
    fails(errno.ESTALE, 1)
    assert fs.exists("x"), "asked once more"
    fails(errno.ESTALE, 9)
    assert not fs.exists("x")


class ComesBack(FileOps):
    """A list that is away when something is looked for, and back when it is asked whether it is away."""

    def is_there(self) -> bool:
        if os.path.exists(f"{self.root}.away"):
            os.rename(f"{self.root}.away", self.root)
        return super().is_there()


LOOKS: dict[str, Callable[[FileOps], object]] = {
    "exists": lambda fs: fs.exists("todo/a") or None,
    "entries": lambda fs: fs.entries("todo"),
    "scan": lambda fs: list(fs.scan("todo")),
    "read": lambda fs: fs.read("todo/a"),
    "append": lambda fs: fs.append("todo/a", [b"more"]) or True,
    "force": lambda fs: fs.force_file("todo/a") or True,
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_list_that_comes_back_while_something_is_looked_for(tmp_path: Path, look: str) -> None:
    """What was not there may have been away with it; said to be taken by others, a result would be thrown away."""
    fs = ComesBack(tmp_path / "list")
    (tmp_path / "list/todo").mkdir(parents=True)
    (tmp_path / "list/todo/a").write_bytes(b"text")
    fs.awaited = True
    os.rename(fs.root, f"{fs.root}.away")
    assert LOOKS[look](fs)
    assert not fs.exists("todo/b") and fs.entries("done") == [] and not os.path.exists(f"{fs.root}.away")
    with pytest.raises(FileNotFoundError):
        fs.read("todo/b")
    os.rename(fs.root, f"{fs.root}.elsewhere")
    for each in LOOKS.values():
        with pytest.raises(OSError, match="not there") as caught:
            each(fs)
        assert caught.value.errno == errno.ESTALE


def test_a_symbolic_link_is_refused(fs: FileOps, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"secret")
    os.symlink(target, fs.path("link"))
    for call in (lambda: fs.read("link"), lambda: fs.append("link", [b"x"]), lambda: fs.open_read("link")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.ELOOP
    with pytest.raises(FileExistsError):
        fs.create("link", [b"x"])
    assert target.read_bytes() == b"secret"


def test_forcing(fs: FileOps) -> None:
    fs.force_folder("")
    fs.force_all()
    with pytest.raises(FileNotFoundError):
        fs.force_folder("no")


# -- when it fails ---------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("operation", ["open", "truncate", "write"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "io"), KeyboardInterrupt()])
def test_a_failed_append_leaves_the_file_and_no_descriptor(tmp_path: Path, operation: str,
                                                           error: BaseException) -> None:
    (tmp_path / "x").write_bytes(b"call+torn")
    fs = Failing(tmp_path, error, lambda op, *args: op == operation)
    before = open_files()
    with pytest.raises(type(error)):
        fs.append("x", [b"result"], cut=4)
    assert fs.failed == 1 and open_files() == before
    left = (tmp_path / "x").read_bytes()
    if isinstance(error, OSError):
        assert left == (b"call+torn" if operation in ("open", "truncate") else b"call")
    else:
        assert left.startswith(b"call")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() or not sys.platform.startswith("linux"):
        pytest.skip("only root can mount a small file system")
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(point)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def test_append_to_a_full_disk_is_cut_back(small_disk: Path) -> None:
    fs = FileOps(small_disk)
    fs.create("x", [b"call"])
    with pytest.raises(OSError) as caught:
        fs.append("x", [b"r" * 30_000, b"s" * 30_000, b"t" * 30_000])
    assert caught.value.errno == errno.ENOSPC
    assert fs.read("x") == b"call"
    fs.append("x", [b" and result"])
    assert fs.read("x") == b"call and result"


def test_create_on_a_full_disk_leaves_nothing_and_says_where(small_disk: Path) -> None:
    fs = FileOps(small_disk)
    with pytest.raises(OSError) as caught:
        fs.create("x", [b"r" * 40_000, b"s" * 40_000])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(small_disk / "x"))
    assert not fs.exists("x")
    fs.create("x", [b"call"])
    assert fs.read("x") == b"call"


def test_append_beyond_a_limit_of_size_is_cut_back(tmp_path: Path) -> None:
    """The same without root: the kernel refuses in the middle of a write."""
    program = f"""
import resource, signal
from runforrest.folder.fsio import FileOps
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fs = FileOps({str(tmp_path)!r})
fs.create("x", [b"call"])
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
try:
    fs.append("x", [b"r" * 6000, b"s" * 6000])
except OSError as error:
    print(error.errno)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(run.stdout) == errno.EFBIG
    assert (tmp_path / "x").read_bytes() == b"call"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 10000


# -- who hears of it -------------------------------------------------------------------------


def everything(fs: FileOps) -> None:
    fs.mkdir("d")
    fs.create("d/x", [b"1"], force=True)
    fs.append("d/x", [b"2"], cut=0)
    fs.force_file("d/x")
    fs.read("d/x")
    fs.listdir("d")
    fs.exists("d/x")
    fs.rename("d/x", "d/y")
    fs.force_folder("d")
    fs.force_all()
    fs.unlink("d/y")
    fs.rmdir("d")


HEARD = ["mkdir", "create", "write", "fsync", "open", "truncate", "write", "fsync", "open", "listdir", "exists",
         "rename", "fsync", "syncfs", "unlink", "rmdir"]


def test_every_operation_is_heard(tmp_path: Path) -> None:
    fs = Recording(tmp_path)
    everything(fs)
    assert [call[0] for call in fs.calls] == HEARD
    heard: list[str] = []
    everything(FileOps(tmp_path, hook=lambda operation, args: heard.append(operation)))
    assert heard == HEARD


def test_after_is_told_what_succeeded(tmp_path: Path) -> None:
    done: list[str] = []

    class Told(FileOps):
        def after(self, operation: str, *args: object) -> None:
            done.append(operation)

    everything(Told(tmp_path))
    assert done == ["mkdir", "create", "append", "rename", "unlink", "rmdir"]
    done.clear()
    fs = Told(tmp_path)
    for call in (lambda: fs.rename("no", "x"), lambda: fs.rmdir("no"), lambda: fs.append("no", [b""])):
        with pytest.raises(FileNotFoundError):
            call()
    fs.unlink("no")
    assert done == []


def test_a_hook_by_environment(tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text("heard = []\ndef hook(operation, args):\n    heard.append((operation, *args))\n")
    program = f"from runforrest.folder.fsio import FileOps\nFileOps({str(tmp_path)!r}).mkdir('d')\n"
    program += "import spy; print(spy.heard)"
    environment = {**os.environ, fsio.HOOK_VARIABLE: "spy:hook",
                   "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[('mkdir', 'd')]"
