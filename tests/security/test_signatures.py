"""With a key, nothing is unpickled that nobody with the key has signed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runforrest as rf
from runforrest import defer, errors
from runforrest.folder import frames, signing
from runforrest.folder.fsio import FileOps
from runforrest.folder.leases import Membership
from runforrest.folder.settings import open_list
from runforrest.folder.signing import CALL, RESULT, Key
from runforrest.folder.transitions import TaskFolder
from runforrest.model.names import Name
from tests import tasks as work
from tests.cli.programs import environment, runforrest

from .planting import (
    MALLORY,
    Canary,
    change_settings,
    frames_of,
    make,
    name_of,
    needs_root,
    only,
    opened,
    record_of,
    result,
    rewrite,
    run,
    texts_of,
)


def new_key(path: Path) -> Path:
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    return path


@pytest.fixture
def key(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key of the lists here, in the environment, as one would have it."""
    monkeypatch.setenv(signing.VARIABLE, str(new_key(place / "key")))
    return place / "key"


# -- forged calls --------------------------------------------------------------------------


def bare(path: Path, bomb: bytes) -> None:
    path.write_bytes(bomb)


def unsigned(path: Path, bomb: bytes) -> None:
    envelope = {k: v for k, v in frames_of(path)[0][0].items() if k != "hmac"}
    rewrite(path, (envelope, bomb))


def with_its_old_signature(path: Path, bomb: bytes) -> None:
    rewrite(path, (texts_of(path)[0][0], bomb))


def with_another_key(path: Path, bomb: bytes) -> None:
    envelope = {k: v for k, v in frames_of(path)[0][0].items() if k != "hmac"}
    other = Key(str(new_key(path.parents[2] / "other key")))
    path.write_bytes(b"".join(frames.encode(other.signed(CALL, envelope["id"], envelope, bomb), bomb)))


def with_another_environment(path: Path, bomb: bytes) -> None:
    """The call is as it was signed; where its modules come from is not."""
    [(envelope, call)] = frames_of(path)
    modules = path.parents[2] / "modules"
    modules.mkdir()
    (modules / "tests.py").write_text(f"import pickle; pickle.loads({bomb!r})")
    rewrite(path, ({**{k: v for k, v in envelope.items() if k != "hmac"}, "path": [str(modules)],
                    "hmac": envelope["hmac"]}, call))


def signed_as_a_result(path: Path, bomb: bytes) -> None:
    """A value that a task has returned, and that was signed as such, in place of a call."""
    key = Key(os.environ[signing.VARIABLE])
    envelope = {k: v for k, v in frames_of(path)[0][0].items() if k != "hmac"}
    path.write_bytes(b"".join(frames.encode(key.signed(RESULT, envelope["id"], envelope, bomb), bomb)))


def with_a_frame_in_front(path: Path, bomb: bytes) -> None:
    path.write_bytes(b"".join(frames.encode({"frame": "envelope", "id": name_of(path).id}, bomb)) + path.read_bytes())


def without_checksum_of_the_footer(path: Path, bomb: bytes) -> None:
    """So that the whole file reads as a bare pickle."""
    path.write_bytes(bomb + path.read_bytes()[:-1] + b"x")


def with_an_empty_signature(path: Path, bomb: bytes) -> None:
    rewrite(path, ({"frame": "envelope", "id": name_of(path).id, "hmac": ""}, bomb))


FORGERIES = [bare, unsigned, with_its_old_signature, with_another_key, with_another_environment, signed_as_a_result,
             with_a_frame_in_front, without_checksum_of_the_footer, with_an_empty_signature]


@pytest.mark.parametrize("forge", FORGERIES)
@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_a_forged_task(place: Path, key: Path, canary: Canary, isolation: str,
                       forge: Callable[[Path, bytes], None]) -> None:
    make(place / "tasks", defer(work.unpicklable_value), defer(abs, -1))
    path = sorted((place / "tasks" / "todo").glob("*unpicklable*"))[0]
    forge(path, canary.pickle)
    refused, fine = sorted(run(place / "tasks", isolation), key=lambda task: task.errorvalue is None)
    assert fine.returnvalue == 1
    assert isinstance(refused.errorvalue, errors.Untrusted) and not canary.sang
    record = record_of(only(place / "tasks", "fail"))
    assert record["outcome"] == "refused" and "nobody with the key of this list has signed it" in record["message"]


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_forged_task_that_is_looked_at_or_debugged(place: Path, key: Path, canary: Canary,
                                                     forge: Callable[[Path, bytes], None]) -> None:
    make(place / "tasks", defer(work.unpicklable_value))
    forge(only(place / "tasks", "todo"), canary.pickle)
    [task] = opened(place / "tasks").todo_tasks()
    assert isinstance(task.errorvalue, errors.Untrusted)
    for more in ([], ["--trust"]):          # which is about owners, not about the key
        ended = runforrest(only(place / "tasks", "todo"), place / "out.pkl", *more)
        assert ended.returncode == 1 and "has signed it" in ended.stderr
    assert not canary.sang


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_the_envelope_of_a_forged_task_is_not_used(place: Path, key: Path, canary: Canary, isolation: str) -> None:
    """The child imports a little to write down that it refuses the task: not from where the task says."""
    modules = place / "modules"
    modules.mkdir()
    for name in sys.stdlib_module_names:
        (modules / f"{name}.py").write_text(f"import os; os.mkdir({str(canary.path)!r})")
    made = make(place / "tasks", defer(abs, -1))
    path = only(place / "tasks", "todo")
    [(envelope, call)] = frames_of(path)
    rewrite(path, ({**envelope, "path": [str(modules)], "env": {"SPOILT": "yes"}, "chdir": "/nowhere"}, call))
    made.schedule(defer(os.environ.get, "SPOILT"), priority=-1)
    refused, fine = run(place / "tasks", isolation)
    assert isinstance(refused.errorvalue, errors.Untrusted)
    assert fine.errorvalue is None and fine.returnvalue is None and not canary.sang


def test_trust_does_not_stand_for_a_signature(place: Path, key: Path, canary: Canary) -> None:
    make(place / "tasks")
    (place / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)
    [task] = run(place / "tasks", trust=True)
    assert isinstance(task.errorvalue, errors.Untrusted) and not canary.sang


def test_without_a_key_the_canary_sings(place: Path, canary: Canary) -> None:
    make(place / "tasks")
    (place / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)
    run(place / "tasks")
    assert canary.sang


def test_a_task_under_another_name(place: Path, key: Path) -> None:
    """A signed task can't be made to run, or to count, as another one."""
    made = make(place / "tasks")
    id = made.schedule(defer(abs, -1))
    path = only(place / "tasks", "todo")
    path.rename(path.with_name("other.pkl"))
    [task] = run(place / "tasks")
    assert isinstance(task.errorvalue, errors.Untrusted) and f"rename it to {id}.pkl" in str(task.errorvalue)
    only(place / "tasks", "fail").rename(path)
    [task] = run(place / "tasks")
    assert task.returnvalue == 1


@pytest.mark.parametrize("step", range(7))
def test_one_bit_anywhere(place: Path, key: Path, step: int, tried: Callable[[str, int], None]) -> None:
    """Whatever bit of a signed task is turned, it is refused, or was not part of what counts."""
    make(place / "tasks", defer(abs, -1))
    path = only(place / "tasks", "todo")
    good, list_ = path.read_bytes(), opened(place / "tasks")
    loaded = 0
    for at in range(step, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1:])
        [task] = list_.todo_tasks()
        loaded += task.errorvalue is None
    assert loaded == 0
    tried("bits of a signed task turned", len(range(step, len(good), 7)))


# -- forged results ------------------------------------------------------------------------


def done(place: Path, *tasks: Any) -> Path:
    make(place / "tasks", *(tasks or [defer(abs, -1)]))
    run(place / "tasks")
    return sorted((place / "tasks" / "done").glob("*.pkl"))[0]


def forged_value(path: Path, bomb: bytes) -> None:
    [call, (record, _)] = frames_of(path)
    rewrite(path, call, ({k: v for k, v in record.items() if k != "hmac"}, bomb))


def forged_value_with_its_old_signature(path: Path, bomb: bytes) -> None:
    [call, (record, _)] = texts_of(path)
    rewrite(path, call, (record, bomb))


def second_result(path: Path, bomb: bytes) -> None:
    rewrite(path, *frames_of(path), result(path, bomb, ended="9"))


def second_result_that_was_before(path: Path, bomb: bytes) -> None:
    rewrite(path, *frames_of(path), result(path, bomb, number=0))


def nothing_as_a_result(path: Path, bomb: bytes) -> None:
    rewrite(path, *frames_of(path), result(path, b""))


def nothing_with_a_payload_of_its_own(path: Path, bomb: bytes) -> None:
    rewrite(path, *frames_of(path), (result(path, b"")[0], bomb))


def nothing_with_a_damaged_payload(path: Path, bomb: bytes) -> None:
    head = b"".join(frames.encode(result(path, b"")[0], bomb))
    path.write_bytes(path.read_bytes() + b"X" + head[1:])


def forged_error(path: Path, bomb: bytes) -> None:
    rewrite(path, *frames_of(path), result(path, bomb, "raised"))


def forged_beside(path: Path, bomb: bytes) -> None:
    """As if the attempt had been one after a take-over."""
    [call, _] = frames_of(path)
    rewrite(path, call)
    tries = path.parents[1] / ".runforrest" / "tries"
    tries.mkdir(parents=True, exist_ok=True)
    rewrite(tries / name_of(path).side(), result(path, bomb))


def nothing_beside(path: Path, bomb: bytes) -> None:
    forged_beside(path, bomb)
    side = path.parents[1] / ".runforrest" / "tries" / name_of(path).side()
    rewrite(side, result(path, b""))
    side.rename(side.with_name(side.name[:-4] + ".lost"))


def signed_as_a_call(path: Path, bomb: bytes) -> None:
    key = Key(os.environ[signing.VARIABLE])
    record, _ = result(path, bomb)
    path.write_bytes(path.read_bytes() + b"".join(
        frames.encode(key.signed(CALL, name_of(path).id, record, bomb), bomb)))


@pytest.mark.parametrize("forge", [
    forged_value, forged_value_with_its_old_signature, second_result, second_result_that_was_before,
    nothing_as_a_result, nothing_with_a_payload_of_its_own, nothing_with_a_damaged_payload, forged_error,
    forged_beside, nothing_beside, signed_as_a_call])
def test_a_forged_result(place: Path, key: Path, canary: Canary, forge: Callable[[Path, bytes], None]) -> None:
    path = done(place)
    forge(path, canary.pickle)
    [task] = opened(place / "tasks").done_tasks()
    assert not canary.sang and isinstance(task.errorvalue, (errors.Untrusted, errors.Unloadable))
    assert isinstance(task.errorvalue, errors.Untrusted)
    with pytest.raises(errors.Untrusted, match="signed"):
        task.returnvalue  # noqa: B018


def test_the_result_of_another_task(place: Path, key: Path) -> None:
    done(place, defer(abs, -1), defer(abs, -2))
    one, two = sorted((place / "tasks" / "done").glob("*.pkl"))
    rewrite(two, texts_of(two)[0], texts_of(one)[1])
    stolen = Name(name_of(two).id, name_of(one).tries, name_of(one).tag)
    two.rename(two.with_name(str(stolen)))          # so that the attempt fits, too
    assert len(name_of(one).id) == len(name_of(two).id)
    first, second = opened(place / "tasks").done_tasks()
    assert first.returnvalue == 1 and isinstance(second.errorvalue, errors.Untrusted)


def test_a_forged_result_that_recovery_rolls_forward(place: Path, key: Path, canary: Canary) -> None:
    """A runner died, and a forged frame of its attempt is there: the task comes to done/, its value to nobody."""
    make(place / "tasks", defer(abs, -1))
    fs = FileOps(place / "tasks")
    folder = TaskFolder(fs, open_list(fs, False, key=Key(str(key))))
    dead = Membership(folder, "dead")
    dead.register()
    [name] = folder.names("todo")
    mine = folder.claim(name, "dead")
    path = place / "tasks" / "doing" / "dead" / str(mine)
    path.write_bytes(path.read_bytes() + b"".join(frames.encode(*result(path, canary.pickle))))
    fs.rename(".runforrest/hb/dead@0", ".runforrest/hb/dead@dead")
    assert Membership(folder).recover() == ["dead"]
    [task] = opened(place / "tasks").done_tasks()
    assert isinstance(task.errorvalue, errors.Untrusted) and not canary.sang
    path = only(place / "tasks", "done")
    path.rename(place / "tasks" / "todo" / path.name)
    [task] = run(place / "tasks")
    assert task.returnvalue == 1 and not canary.sang


# -- sessions ------------------------------------------------------------------------------

SESSION_PROGRAM = """
import os, sys
from runforrest import TaskList, defer
def global_value(): return magic
magic = 42
tasks = TaskList(sys.argv[1], durability="none")
tasks.schedule(defer(global_value))
print([task.returnvalue for task in tasks.run(1, save_session=True)])
"""


def saved(place: Path) -> Path:
    ended = subprocess.run([sys.executable, "-c", SESSION_PROGRAM, str(place / "tasks")], env=environment(),
                           capture_output=True, text=True)
    assert ended.stdout == "[42]\n", ended.stderr
    return place / "tasks" / "session.pkl"


def test_a_session_is_signed_and_loads(place: Path, key: Path) -> None:
    session = saved(place)
    opened(place / "tasks").schedule(defer(abs, -1))
    assert runforrest("run", place / "tasks", "-s", session).returncode == 0


@pytest.mark.parametrize("by_name", ["tasks/session.pkl", "other/session.pkl", "link"])
@pytest.mark.parametrize("how", ["plain", "old signature"])
def test_a_forged_session(place: Path, key: Path, canary: Canary, how: str, by_name: str) -> None:
    """By whatever name it is given."""
    (place / "other").symlink_to(place / "tasks")
    (place / "link").symlink_to(place / "tasks" / "session.pkl")
    session = saved(place)
    [(record, _)] = texts_of(session)
    if how == "plain":
        session.write_bytes(canary.session())
    else:
        rewrite(session, (record, canary.session()))
    opened(place / "tasks").schedule(defer(abs, -1))
    session = place / by_name
    ended = runforrest("run", place / "tasks", "-s", session)
    assert ended.returncode == 3 and "nobody with the key" in ended.stderr
    ended = runforrest(only(place / "tasks", "todo"), place / "out.pkl", "-s", session)
    assert ended.returncode == 1 and "nobody with the key" in ended.stderr
    assert not canary.sang


# -- what still works ----------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["process", "reuse"])
def test_every_ending_of_a_signed_list(place: Path, key: Path, isolation: str) -> None:
    make(place / "tasks", defer(abs, -1), defer(divmod, 1, 0), defer(os._exit, 3), defer(bytes, 300_000))
    made = opened(place / "tasks")
    made.schedule(defer(work.hang, str(place / "log")), timeout=0.3)
    kinds = sorted(type(task.errorvalue).__name__ for task in made.run(2, isolation=isolation, crash_limit=2))
    assert kinds == ["Crashed", "NoneType", "NoneType", "TimedOut", "ZeroDivisionError"]
    values = [task.returnvalue for task in made.done_tasks()]
    assert values == [1, bytes(300_000)]


def test_after_a_take_over(place: Path, key: Path) -> None:
    make(place / "tasks", defer(abs, -1))
    path = only(place / "tasks", "todo")
    path.rename(path.with_name(str(Name(name_of(path).id, 1, "ab", 1))))
    [task] = run(place / "tasks")
    assert task.returnvalue == 1 and list((place / "tasks" / ".runforrest" / "tries").iterdir())


def test_a_cancelled_task(place: Path, key: Path) -> None:
    """`cancel` needs no key: what it writes is not unpickled."""
    make(place / "tasks", defer(abs, -1))
    assert runforrest("cancel", place / "tasks", "abs").returncode == 0
    [task] = opened(place / "tasks").fail_tasks()
    assert isinstance(task.errorvalue, errors.Cancelled)


def test_a_copy_and_a_retry_by_hand(place: Path, key: Path) -> None:
    path = done(place)
    shutil.copy(path, place / "tasks" / "todo" / path.name)
    [task] = run(place / "tasks")
    assert task.returnvalue == 1


def test_a_list_that_is_in_a_task(place: Path, key: Path) -> None:
    """It is unpickled in the child, and what it schedules there is signed."""
    made = make(place / "tasks")
    made.schedule(defer(made.schedule, os.getpid))
    [first] = run(place / "tasks")
    assert first.errorvalue is None
    [waiting] = opened(place / "tasks").todo_tasks()
    assert waiting.errorvalue is None


def test_cleaned_and_made_anew_with_another_key(place: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(place / "tasks", defer(abs, -1))
    monkeypatch.setenv(signing.VARIABLE, str(new_key(place / "second")))
    again = rf.TaskList(place / "tasks", exist_ok=True)
    again.schedule(defer(abs, -2))
    again.clean()
    again.schedule(defer(abs, -3))
    assert [task.returnvalue for task in run(place / "tasks")] == [3]
    monkeypatch.delenv(signing.VARIABLE)
    rf.TaskList(place / "tasks", exist_ok=True).schedule(defer(abs, -4))
    assert [task.returnvalue for task in run(place / "tasks")] == [4]


# -- the key -------------------------------------------------------------------------------


def test_the_key_is_in_no_command_line_and_not_in_the_folder(place: Path, key: Path) -> None:
    secret = key.read_bytes()
    make(place / "tasks", defer(command_lines))
    [task] = run(place / "tasks")
    assert task.errorvalue is None
    lines = task.returnvalue
    assert len(lines) > 2 and str(key).encode() in b" ".join(lines)       # where it is, as `ps` shows it anyway
    kept = [path.read_bytes() for path in (place / "tasks").rglob("*") if path.is_file()]
    for form in (secret, secret.hex().encode(), json.dumps(secret.decode("latin-1")).encode()):
        assert not any(form in text for text in [*lines, *kept])
    assert any(json.loads((place / "tasks" / "runforrest.json").read_text())["key"].encode() in text for text in kept)


def command_lines() -> list[bytes]:
    import psutil
    me = psutil.Process()
    return [Path(f"/proc/{p.pid}/{what}").read_bytes() for p in (me, *me.parents()[:3])
            for what in ("cmdline", "environ")]


def test_no_key_or_the_wrong_one(place: Path, key: Path, monkeypatch: pytest.MonkeyPatch, canary: Canary) -> None:
    make(place / "tasks", defer(abs, -1))
    (place / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)
    monkeypatch.delenv(signing.VARIABLE)
    id = json.loads((place / "tasks" / "runforrest.json").read_text())["key"]
    with pytest.raises(errors.SigningKeyError, match=f"is signed with the key {id}: name the file"):
        opened(place / "tasks")
    with pytest.raises(errors.SigningKeyError, match="use the right file"):
        opened(place / "tasks", key_file=new_key(place / "wrong"))
    ended = runforrest("run", place / "tasks")
    assert ended.returncode == 2 and "--key-file" in ended.stderr
    ended = runforrest(place / "tasks" / "todo" / "0.pkl", place / "out.pkl")
    assert ended.returncode == 1 and "--key-file" in ended.stderr and not canary.sang
    for command in ("status", "ls"):            # these only look
        assert runforrest(command, place / "tasks").returncode == 0
    assert runforrest("run", place / "tasks", "--key-file", key).returncode == 1       # one of them is refused
    assert not canary.sang


def test_a_list_that_is_made_to_look_unsigned(place: Path, key: Path, canary: Canary) -> None:
    make(place / "tasks")
    (place / "tasks" / "todo" / "0.pkl").write_bytes(canary.pickle)
    change_settings(place / "tasks", key="")
    with pytest.raises(errors.SigningKeyError, match="is not signed"):
        opened(place / "tasks")
    (place / "tasks" / "runforrest.json").unlink()
    ended = runforrest("run", place / "tasks")
    assert ended.returncode == 2 and "is not signed" in ended.stderr and not canary.sang


def test_a_key_file_that_is_no_good(place: Path) -> None:
    file = place / "key"
    for content, mode, text in ((b"x" * 31, 0o600, "has 31 bytes"), (b"x" * 5000, 0o600, "more than 4096"),
                                (b"x" * 32, 0o640, "not yours alone"), (b"x" * 32, 0o604, "not yours alone"),
                                (b"x" * 32, 0o620, "not yours alone")):
        file.write_bytes(content)
        file.chmod(mode)
        with pytest.raises(errors.SigningKeyError, match=text) as caught:
            make(place / "tasks", key_file=file)
        assert vars(caught.value)["key_file"] == str(file)
    for path in (place / "missing", place):
        with pytest.raises(errors.SigningKeyError, match="can't be read"):
            make(place / "tasks", key_file=path)
    assert not (place / "tasks").exists()


@needs_root
def test_a_key_of_somebody_else(place: Path) -> None:
    os.chown(new_key(place / "key"), MALLORY, MALLORY)
    with pytest.raises(errors.SigningKeyError, match="not yours alone"):
        make(place / "tasks", key_file=place / "key")


def test_errors_survive_pickling(key: Path) -> None:
    for error in (errors.Untrusted("x", attempt=1), errors.SigningKeyError("x", key_file="f", directory="d")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and str(copy) == "x" and vars(copy) == vars(error)
