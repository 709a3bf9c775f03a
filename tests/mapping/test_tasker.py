"""`Tasker` with one process: the rows of the original's table, and files in every state."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runforrest.errors import InvalidArgument, Unloadable, UnpicklableError
from runforrest.folder import identity
from runforrest.mapping import MapFailed, MapInUse, Tasker, about, dump, load, lock
from runforrest.mapping.cache import Cache

Tried = Callable[[str, int], None]
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def tasker() -> Tasker:
    return Tasker("serial")


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "results.pkl")


class Counted:
    """A function that counts its calls; how many there were is no part of what it is."""

    def __init__(self, bad: tuple[object, ...] = ()) -> None:
        self.calls: list[object] = []
        self.bad = bad

    def __reduce__(self) -> tuple[Any, ...]:
        return Counted, ()

    def __call__(self, x: Any) -> Any:
        self.calls.append(x)
        if x in self.bad:
            raise ValueError(f"no {x}")
        return x * 2


# -- load and dump ----------------------------------------------------------------------------


def test_load_and_dump(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    assert load(path) is None and load(path, "missing") == "missing"
    assert dump(path, 1) is None and load(path) == 1        # type: ignore[func-returns-value]
    dump(path, 1, "b")
    assert load(path) == (1, "b")
    dump(path, (1, "b"))
    assert load(str(path)) == (1, "b")
    dump(path, None)
    assert load(path, "missing") is None
    dump(path)
    with pytest.raises(IndexError):
        load(path)
    assert os.listdir(tmp_path) == ["a.pkl"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_dump_and_the_original_read_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    with open(path, "wb") as opened:
        pickle.dump((1, 2), opened)
    assert load(path) == (1, 2)
    dump(path, [3])
    with open(path, "rb") as opened:
        assert pickle.load(opened) == ([3],)


def test_dump_keeps_the_old_file_if_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    dump(path, 1)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        dump(path, 2, lambda: None)
    assert load(path) == 1 and os.listdir(tmp_path) == ["a.pkl"]


def test_dump_goes_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    dump(tmp_path / "link", 5)
    assert (tmp_path / "link").is_symlink() and load(tmp_path / "real") == 5


@pytest.mark.parametrize("content", [b"", b"\x80\x05K", b"\0" * 100, b"text"])
def test_load_of_a_torn_file_says_which(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(Unloadable, match=r"a\.pkl is torn"):
        load(path)


def test_load_of_what_another_program_has_pickled(tmp_path: Path) -> None:
    for value in (5, None, [1, 2], {"a": 1}):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
        assert load(tmp_path / "a.pkl") == value


# -- the rows of the table ---------------------------------------------------------------------


def test_attributes(tasker: Tasker) -> None:
    assert (tasker.comm, tasker.size, tasker.rank, tasker.root) == (None, 1, 0, 0)
    assert tasker.isroot() and tasker._prefix == "Task  0"
    with tasker as entered:
        assert entered is tasker


def test_without_mpi_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert Tasker().comm is None
    assert "one after the other" in capsys.readouterr().err


def test_map(tasker: Tasker, file: str) -> None:
    factor = 3
    assert tasker.map(file, lambda x: x * factor, [5, 6]) == [(0, [5], 15), (1, [6], 18)]
    assert not os.path.exists(file + ".mpi") and load(file) == [(0, [5], 15), (1, [6], 18)]
    assert tasker.map(file, lambda x: x * factor, iter([5, 6])) == [(0, [5], 15), (1, [6], 18)]
    assert tasker.map(file + "2", len, []) == []


def test_joblist_and_execute(tasker: Tasker, file: str) -> None:
    function = Counted()
    with pytest.raises(InvalidArgument, match="no function"):
        tasker.execute((0, file, 1))
    tasker.map(file, function, [1])
    jobs, folder = tasker.make_joblist(file, "ab")
    assert jobs == [(0, f"{file}.mpi/job0000.pkl", "a"), (1, f"{file}.mpi/job0001.pkl", "b")]
    assert folder == f"{file}.mpi" and os.path.isdir(folder)
    assert tasker.execute(jobs[0]) == tasker.execute(jobs[0]) == (0, ["a"], "aa")
    assert function.calls == [1, "a"] and load(jobs[0][1]) == "aa"
    tasker.cleanup_files(folder, jobs)
    assert not os.path.exists(folder)
    assert tasker.make_joblist(file, range(10_001))[0][-1][1].endswith("/job10000.pkl")


def test_cleanup_leaves_what_is_not_ours(tasker: Tasker, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    jobs, folder = tasker.make_joblist(file, [1])
    Path(folder, "mine.txt").write_text("x")
    Path(folder, "job0007.pkl").write_text("of a longer list")
    tasker.cleanup_files(folder, jobs)
    assert os.listdir(folder) == ["mine.txt"] and "was not removed" in capsys.readouterr().err


def test_the_block_swallows_nothing(tasker: Tasker) -> None:
    for error in (SystemExit(3), KeyboardInterrupt(), ValueError()):
        with pytest.raises(type(error)), tasker:
            raise error


# -- what is done again ------------------------------------------------------------------------


def test_failed_jobs_only(tasker: Tasker, file: str) -> None:
    function = Counted(bad=(2, 4))
    with pytest.raises(MapFailed, match=r"2 of 5 jobs .* failed: 2 \(ValueError: no 2\), 4 ") as caught:
        tasker.map(file, function, range(5))
    assert list(caught.value.failed) == [2, 4] and function.calls == [0, 1, 2, 3, 4]     # type: ignore[attr-defined]
    assert "raise ValueError" in str(caught.value.__cause__.__cause__)                  # type: ignore[union-attr]
    function.calls, function.bad = [], ()
    assert [r for *_, r in tasker.map(file, function, range(5)) or ()] == [0, 2, 4, 6, 8]
    assert function.calls == [2, 4]


def test_arguments_that_changed(tasker: Tasker, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    function = Counted()
    tasker.map(file, function, [1, 2, 3])
    assert tasker.map(file, function, [1, 5, 3, 4]) == [(0, [1], 2), (1, [5], 10), (2, [3], 6), (3, [4], 8)]
    assert function.calls == [1, 2, 3, 5, 4]
    assert "the arguments changed, so 1 of its jobs are done again" in capsys.readouterr().err
    assert len(tasker.map(file, function, [1]) or ()) == 1 and function.calls == [1, 2, 3, 5, 4]


def test_results_that_were_kept_and_are_of_something_else(tasker: Tasker, file: str) -> None:
    for function, again in ((Counted(bad=(3,)), [1, 2, 3]), (Counted(bad=(3,)), [3])):
        with pytest.raises(MapFailed):
            tasker.map(file, function, [1, 2, 3])
        assert function.calls == again
    with pytest.raises(MapFailed):
        tasker.map(file, lambda x: 1 / (x - 3), [1, 2, 3])
    function = Counted()
    tasker.map(file, function, [1, 2, 3])
    assert function.calls == [1, 2, 3]


def test_changed_again_and_interrupted(tasker: Tasker, file: str) -> None:
    """The final file is of an older state than the files of the jobs."""
    tasker.map(file, lambda x: -x, [1, 2])
    function = Counted(bad=(2,))
    with pytest.raises(MapFailed):
        tasker.map(file, function, [1, 2])
    function.calls, function.bad = [], ()
    assert tasker.map(file, function, [1, 2]) == [(0, [1], 2), (1, [2], 4)]
    assert function.calls == [2]


def test_what_is_there_counts_without_check(file: str) -> None:
    tasker = Tasker("serial", check=False)
    tasker.map(file, lambda x: x, [1])
    assert tasker.map(file, lambda x: x + 1, [2]) == [(0, [1], 1)]
    assert tasker.map(file, None, None) == [(0, [1], 1)]       # type: ignore[arg-type]


def test_a_final_file_from_elsewhere_is_loaded(tasker: Tasker, file: str) -> None:
    """As the original does; function and arguments are not looked at."""
    Path(file).write_bytes(pickle.dumps(([(0, [1], "theirs")],)))
    assert tasker.map(file, Counted(), [5]) == [(0, [1], "theirs")]


def test_what_is_no_pickle_is_not_overwritten(tasker: Tasker, file: str) -> None:
    Path(file).write_text("a,b\n1,2\n")
    with pytest.raises(InvalidArgument, match="not a file of results"):
        tasker.map(file, Counted(), [5])
    assert Path(file).read_text() == "a,b\n1,2\n"
    Path(file).write_bytes(pickle.dumps(5))
    for wrong in (file, os.path.dirname(file)):
        with pytest.raises(InvalidArgument, match="not a file of results"):
            tasker.map(wrong, Counted(), [5])


@pytest.mark.parametrize("wrong", ["", None, 5])
def test_what_is_no_file_name(tasker: Tasker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    monkeypatch.chdir(tmp_path)
    function = Counted()
    with pytest.raises(InvalidArgument, match="filename must be a path"):
        tasker.map(wrong, function, [5])
    assert function.calls == [] and os.listdir(tmp_path) == []


@pytest.mark.parametrize("at", [5, -60])
def test_damage(tasker: Tasker, file: str, at: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte of the pickle, or of what is said of it, is another one."""
    def damage(path: str) -> None:
        content = bytearray(Path(path).read_bytes())
        content[at] ^= 1
        Path(path).write_bytes(content)
    function = Counted(bad=(2,))
    with pytest.raises(MapFailed):
        tasker.map(file, function, [1, 2])
    damage(file + ".mpi/job0000.pkl")
    assert about(file + ".mpi/job0000.pkl") is None
    function.calls, function.bad = [], ()
    tasker.map(file, function, [1, 2])
    assert function.calls == [1, 2] and "1 files are torn" in capsys.readouterr().err
    damage(file)
    if at > 0:
        assert tasker.map(file, function, [1, 2]) == [(0, [1], 2), (1, [2], 4)]
        assert function.calls == [1, 2, 1, 2] and "is torn, and is made anew" in capsys.readouterr().err
    else:
        assert tasker.map(file, function, [1, 2]) == [(0, [1], 2), (1, [2], 4)], "as one from elsewhere"


def test_imports_stay_light() -> None:
    command = ("import sys; from runforrest.mapping import Tasker, load; "
               "print({'dill', 'mpi4py', 'numpy', 'click', 'rich'} & set(sys.modules))")
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout == "set()\n"


def test_what_is_left_over_is_removed(tasker: Tasker, file: str) -> None:
    tasker.map(file, Counted(), [1])
    os.mkdir(file + ".mpi")
    Path(file + ".mpi", "job0000.pkl").write_text("left by a crash after the final file was there")
    tasker.map(file, Counted(), [1])
    assert not os.path.exists(file + ".mpi")


def test_files_of_others_are_not_unpickled(tasker: Tasker, file: str) -> None:
    function = Counted(bad=(2,))
    with pytest.raises(MapFailed):
        tasker.map(file, function, [1, 2])
    os.chmod(file + ".mpi/job0000.pkl", 0o666)
    function.calls, function.bad = [], ()
    tasker.map(file, function, [1, 2])
    assert function.calls == [1, 2]


def test_what_cannot_be_pickled(tasker: Tasker, file: str) -> None:
    with pytest.raises(UnpicklableError, match=r"cannot pickle argument 1: .*generator"):
        tasker.map(file, Counted(), [1, (i for i in ())])
    with pytest.raises(MapFailed, match=r"the result of job 1 \(function\) can't be pickled"):
        tasker.map(file, lambda x: x if x == 0 else lambda: 0, [0, 1])
    with pytest.raises(InvalidArgument, match="takes a function"):
        tasker.map(file, 5, [0])                                # type: ignore[arg-type]


def test_an_exception_of_the_main_program_is_of_its_own_class(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from runforrest.mapping import MapFailed, Tasker\n"
                      "class Wrong(Exception): pass\n"
                      "def fail(x): raise Wrong(x)\n"
                      "try: Tasker('serial').map('file', fail, [1])\n"
                      "except MapFailed as error: print(isinstance(error.failed[0], Wrong))\n")
    ended = _run(script, tmp_path)
    assert ended.stdout == "True\n", ended.stderr


def test_progress(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MapFailed):
        Tasker("serial", progress=True).map(file, Counted(bad=(1,)), [0, 1])
    assert "results.pkl: 2 of 2 jobs, 1 have failed" in capsys.readouterr().err


# -- the lock ----------------------------------------------------------------------------------


def written(file: str, owner: dict[str, Any]) -> None:
    os.makedirs(file + ".mpi", exist_ok=True)
    Path(file + ".mpi", lock.NAME).write_text(json.dumps(owner) + "\n")


def test_one_process_has_it_once(file: str) -> None:
    cache = Cache(file, print)
    with cache.lock(), pytest.raises(MapInUse, match=f"process {os.getpid()}"), cache.lock():
        pass
    with cache.lock():
        pass
    assert os.listdir(file + ".mpi") == []


def test_of_a_process_that_is_dead(tasker: Tasker, file: str) -> None:
    gone = identity.identity()
    gone["processes"] = [[os.getpid(), "1"]]
    written(file, gone)
    assert tasker.map(file, Counted(), [1]) == [(0, [1], 2)]


def test_of_a_process_on_another_host(tasker: Tasker, file: str, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    """On a filesystem whose locks don't reach it: it lives as long as the file grows."""
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.5)
    elsewhere = {"host": "elsewhere", "boot": "another", "pid": 12, "processes": [[12, "1"]]}
    written(file, elsewhere)
    grown = [0]

    def size(self: lock.Lock) -> int:
        grown[0] += 1
        return grown[0]
    with monkeypatch.context() as patched:
        patched.setattr(lock.Lock, "_size", size)
        with pytest.raises(MapInUse, match="process 12 on elsewhere"):
            tasker.map(file, Counted(), [1])
    assert tasker.map(file, Counted(), [1]) == [(0, [1], 2)]
    assert "process 12 on elsewhere: waiting" in capsys.readouterr().err


def test_it_grows_while_it_is_held(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with Cache(file, print).lock() as held:
        before = held._size()
        while held._size() == before:
            pass


# -- a crash after every file operation ----------------------------------------------------------

PROGRAM = """
    import os, sys
    from runforrest.mapping import Tasker, load

    def work(x):
        with open("log", "a") as log:
            log.write(f"{x}\\n")
        return x + 1

    if len(sys.argv) > 1:
        left = [int(sys.argv[1])]
        def hook(operation, arguments):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
        import runforrest.folder.fsio as fsio
        fsio._hook_from_environment = lambda: hook
        from runforrest.mapping import files
        class HalfWritten(files._Summed):
            def write(self, data):
                half = len(data) // 2
                super().write(data[:half])
                self._file.flush()
                hook("half", ())
                return super().write(data[half:])
        files._Summed = HalfWritten
    print(Tasker("serial").map("x.pkl", work, range(3)))
"""


@pytest.mark.slow
def test_a_crash_at_each_operation(tmp_path: Path, tried: Tried) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROGRAM))
    points = 0
    for crashed in _crashes(script, tmp_path):
        points += 1
        whole = [path.name for path in crashed.glob("x.pkl.mpi/job????.pkl")]
        assert all(about(crashed / "x.pkl.mpi" / name) for name in whole), "a half-written file under its final name"
        (crashed / "log").unlink(missing_ok=True)
        final = (crashed / "x.pkl").exists()
        again = _run(script, crashed)
        assert again.stdout == "[(0, [0], 1), (1, [1], 2), (2, [2], 3)]\n", again.stderr
        assert again.stderr == "", "nothing is torn"
        made = (crashed / "log").read_text().split() if (crashed / "log").exists() else []
        assert len(made) == (0 if final else 3 - len(whole)), "what was kept is not done again"
        assert sorted(os.listdir(crashed)) in (["log", "x.pkl"], ["x.pkl"])
    assert points > 20
    tried("operations of a map at which it was killed", points)


def _crashes(script: Path, folder: Path) -> Iterator[Path]:
    """A folder for each operation, in which a program has ended just before it."""
    for number in range(1000):
        place = folder / str(number)
        place.mkdir()
        ended = _run(script, place, str(number))
        if ended.returncode != 9:
            assert ended.returncode == 0, ended.stderr
            return
        yield place


def _run(script: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *arguments], cwd=folder, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
