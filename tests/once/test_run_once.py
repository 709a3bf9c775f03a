"""Every name of run-once, and what is beside it, on both stores."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from runforrest import once
from runforrest.errors import DeferredError, InvalidArgument, UnpicklableError, Untrusted
from runforrest.once import DistributedIterator, Status
from runforrest.once.keys import _claims
from runforrest.once.model import KeyStore
from tests.helpers import wait_for
from tests.hosts.machines import ROOT

pytestmark = pytest.mark.usefixtures("keys")
Tried = Callable[[str, int], None]
NAMES = ["DistributedIterator", "notify_success", "notify_failure", "distributed_task", "Status",
         "search_keys_by_prefix", "count_keys_by_prefix", "at_most_every", "make_versioned_key", "worker_name",
         "try_lock", "make_lock", "force_lock_async", "release_lock_async", "make_duration", "lock_service_client",
         "set_logger_level", "make_logger", "RetryTimeoutError", "run_once", "log", "GlogFormatter", "is_ascii"]
LONG, SHORT = 1000, 0.05


def start(*words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.once.work", *map(str, words)], cwd=ROOT,
                            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


def over(key: str) -> bool:
    return once.search_keys_by_prefix(key, is_expired=True) == [key]


def test_all_names_are_there() -> None:
    assert set(NAMES) <= set(once.__all__) and all(hasattr(once, name) for name in once.__all__)


# -- the iterator ------------------------------------------------------------------------


@pytest.mark.parametrize("given", [["a", "b"], ("a", "b"), {"a": 1, "b": 2}, {"a": 1, "b": 2}.keys()])
def test_what_can_be_iterated_over(given: Any) -> None:
    assert list(DistributedIterator(given, timeout=LONG)) == ["a", "b"]


@pytest.mark.parametrize("given", [range(3), [0, 1, 2]])
def test_int_keys_become_str(given: Any) -> None:
    found = list(DistributedIterator(given, timeout=LONG))
    assert found == ["0", "1", "2"] and [key.original for key in found] == [0, 1, 2]


@pytest.mark.parametrize("given", [{"a"}, (k for k in "ab"), iter(["a"]), "ab", None])
def test_what_cannot_be_iterated_over(given: Any) -> None:
    with pytest.raises(AssertionError):
        DistributedIterator(given)


@pytest.mark.parametrize("given", [[1.5], ["a", None], [b"a"], [True], ["a", ""], ["x" * 1025]])
def test_keys_that_are_none(given: Any) -> None:
    with pytest.raises(ValueError):
        DistributedIterator(given)


def test_no_keys() -> None:
    assert list(DistributedIterator([])) == []


def test_each_key_is_handed_out_once_and_in_order() -> None:
    names = [f"k{n}" for n in range(50)]
    first = iter(DistributedIterator(names, timeout=LONG, chunksize=3))
    second = iter(DistributedIterator(names, timeout=LONG, chunksize=7))
    found = [next(first), next(second), next(first), *second]
    assert found == names
    with pytest.raises(StopIteration):
        next(first)


def test_a_second_round_picks_up_what_is_free_again() -> None:
    iterator = DistributedIterator(["a", "b", "c", "d"], timeout=SHORT)
    for key in iterator:
        if key == "a":
            once.notify_success(key)
        elif key == "b":
            once.notify_failure(key)
    wait_for(lambda: once.count_keys_by_prefix("")["expired"] == 2)
    time.sleep(0.05)                # that is seen to some milliseconds
    assert list(iterator) == ["b", "c", "d"]


def test_what_was_jumped_over_is_handed_out_at_last(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    names, ask, told = [f"k{n}" for n in range(200)], keys.claim_any, set()

    def crowded(some: list[str], timeout: float, owner: str) -> tuple[Any, int, bool]:
        """Of each third key, the first time: somebody else is just taking it."""
        if int(some[0][1:]) % 3 == 0 and some[0] not in told:
            told.add(some[0])
            keys.claim(some[0], LONG, "you")
            return None, 1, True
        return ask(some[:1], timeout, owner)
    monkeypatch.setattr(keys, "claim_any", crowded)
    found = [str(key) for key in DistributedIterator(names, timeout=LONG)]
    assert len(told) > 5 and sorted([*found, *told]) == sorted(names) and found != sorted(found, key=names.index)


def test_threads_share_an_iterator(tried: Tried) -> None:
    """One `next` for each key, by whatever thread; none is passed over."""
    running, found = iter(DistributedIterator(range(300), timeout=LONG)), []

    def take_all() -> None:
        while (key := next(running, None)) is not None:
            found.append(str(key))
    threads = [threading.Thread(target=take_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=int) == [str(n) for n in range(300)]
    tried("keys that eight threads took from one iterator", 300)


def test_each_thread_has_a_loop_over_the_same_iterator() -> None:
    """Each `for` begins anew, also in the midst of what another thread asks for."""
    shared, found = DistributedIterator(range(300), timeout=LONG), []

    def take_all() -> None:
        found.extend(int(key) for key in shared)
    threads = [threading.Thread(target=take_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(300))


def test_an_iterator_can_be_given_to_another_process() -> None:
    shared = DistributedIterator(range(3), LONG, True, 2, 1, 5)
    next(iter(shared))
    twin = pickle.loads(pickle.dumps(shared))
    assert (twin.timeout, twin.shuffle, twin.version, twin.chunksize, twin.random_seed) == (LONG, True, 2, 1, 5)
    assert len(list(twin)) == 2 and list(shared) == []
    assert pickle.loads(pickle.dumps(DistributedIterator(["k"], heartbeat=True))).timeout is None


def test_versions() -> None:
    for version, expected in ((0, "k"), (7, "k_v007"), (1234, "k_v1234"), (-1, "k_v-01")):
        [key] = DistributedIterator(["k"], timeout=LONG, version=version)
        assert key == expected and key.original == "k" and key.version == version
        once.notify_success(key)
        assert list(DistributedIterator(["k"], timeout=LONG, version=version)) == []
    assert once.make_versioned_key("k", 7) == "k_v007"
    for wrong in (("k", 1.5), ("k", "1"), (3, 1), ("k", True)):
        with pytest.raises(ValueError):
            once.make_versioned_key(*wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("decorate", [once.run_once("k"), once.distributed_task("k", LONG)])
def test_an_async_function_is_refused(decorate: Callable[[Any], Any]) -> None:
    """Its key would be done before its work has begun."""
    async def work() -> None: ...
    with pytest.raises(DeferredError, match="work is an async function"):
        decorate(work)


def test_shuffling_has_a_seed() -> None:
    def order(seed: int | None, version: int) -> list[str]:
        keys = DistributedIterator([f"k{n}" for n in range(30)], LONG, True, version, 10, seed)
        return [str(key.original) for key in keys]
    assert order(1, 1) == order(1, 2) != order(2, 3)
    assert order(None, 4) != order(None, 5)


def test_timeout_0_is_the_default_and_loses_what_is_not_done() -> None:
    [key] = DistributedIterator(["k"])
    assert list(DistributedIterator(["k"])) == [] and once.count_keys_by_prefix("k")["success"] == 1
    with pytest.raises(ValueError, match="Completed more than once"):
        once.notify_success(key)
    once.notify_success(key, assert_unique=False)
    once.notify_failure(key)
    assert list(DistributedIterator(["k"])) == ["k"]


@pytest.mark.parametrize("wrong", [{"timeout": -1}, {"timeout": "1"}, {"timeout": None}, {"chunksize": 0},
                                   {"timeout": 1, "heartbeat": True}, {"timeout": float("nan")}, {"random_seed": [1]}])
def test_arguments_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        DistributedIterator(["k"], **wrong)


@pytest.mark.parametrize("call, argument", [
    (lambda: once.at_most_every(seconds="1", key="k"), "seconds"),  # type: ignore[call-overload]
    (lambda: once.make_lock("k", -1), "expiration_seconds"), (lambda: once.run_once("k", wait="5"), "wait"),  # type: ignore[arg-type]
    (lambda: once.search_keys_by_prefix(None), "key_prefix"), (lambda: once.count_keys_by_prefix(5), "key_prefix"),  # type: ignore[arg-type]
    (lambda: once.conditions_of("ab"), "keys"),
    (lambda: once.take("k", store=""), "store"), (lambda: once.take("k", store=b"x"), "store")])  # type: ignore[arg-type]
def test_an_error_names_the_argument(call: Callable[[], object], argument: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{argument} must be") as caught:
        call()
    assert vars(caught.value)["argument"] == argument


def test_next_needs_iter_and_there_is_no_length() -> None:
    iterator = DistributedIterator(["k"])
    with pytest.raises(AttributeError):
        next(iterator)
    with pytest.raises(TypeError):
        len(iterator)  # type: ignore[arg-type]


def test_a_key_that_looks_like_another_with_a_version(capfd: pytest.CaptureFixture[str]) -> None:
    DistributedIterator(["k_v007"])
    assert "'k_v007' is also what another key with a version is called" in capfd.readouterr().err


# -- reporting ---------------------------------------------------------------------------


def test_success_by_the_text_alone() -> None:
    """As scripts do that write the key to a file and read it again."""
    [key] = DistributedIterator(["k"], timeout=LONG, version=3)
    once.notify_success(str(key) + "")
    assert once.count_keys_by_prefix("k") == {"expired": 0, "in_progress": 0, "success": 1}
    with pytest.raises(ValueError, match="Completed more than once"):
        once.notify_success("k_v003")
    once.notify_success("k_v003", assert_unique=False)


def test_success_of_another_process_by_the_text_alone() -> None:
    [key] = DistributedIterator(["k"], timeout=LONG)
    _claims.clear()
    once.notify_success(str(key))
    assert once.count_keys_by_prefix("k")["success"] == 1


def test_success_of_what_nobody_has_claimed() -> None:
    with pytest.raises(AssertionError, match="nobody has claimed"):
        once.notify_success("k")


@pytest.mark.parametrize("text", [False, True])
def test_a_late_success_is_refused(text: bool) -> None:
    [late] = DistributedIterator(["k"], timeout=SHORT)
    in_time = wait_for(lambda: once.store().claim("k", LONG, "somebody")[0])
    with pytest.raises(once.ClaimLost, match="somebody has it now, with token 2"):
        once.notify_success(str(late) if text else late, value="late")
    once.notify_failure(late)
    assert in_time is not None
    once.store().confirm(in_time)


def test_failure() -> None:
    assert once.notify_failure("missing") is None
    [key] = DistributedIterator(["k"], timeout=LONG)
    assert once.notify_failure(str(key)) is None
    [key] = DistributedIterator(["k"], timeout=LONG)
    once.notify_success(key)


def test_failure_of_what_is_done_is_not_believed(capfd: pytest.CaptureFixture[str]) -> None:
    [key] = DistributedIterator(["k"], timeout=LONG)
    once.notify_success(key, value=1)
    once.notify_failure("k")
    once.notify_failure(key)
    assert "it stays done" in capfd.readouterr().err
    assert once.value_of("k") == 1
    once.notify_failure(key, force=True)
    assert once.value_of("k", default="none") == "none"
    assert list(DistributedIterator(["k"])) == ["k"]


def test_failure_of_another_process_by_the_text_alone() -> None:
    [key] = DistributedIterator(["k"], timeout=LONG)
    _claims.clear()
    once.notify_failure(str(key))
    assert list(DistributedIterator(["k"])) == ["k"]


# -- keys --------------------------------------------------------------------------------


def test_a_key_as_a_context_manager() -> None:
    for key in DistributedIterator(["a", "b"], heartbeat=True):
        with key:
            key.value = [key.original]
    assert once.value_of("a") == ["a"]
    with pytest.raises(ValueError, match="Completed"), key:
        pass


def test_a_key_with_timeout_0_as_a_context_manager() -> None:
    for key in DistributedIterator(["a", "b"]):
        with key:
            if key == "b":
                key.value = [key.original]
    assert list(DistributedIterator(["a", "b"])) == [] and once.value_of("a") is None and once.value_of("b") == ["b"]
    with pytest.raises(ValueError, match="Completed"):
        once.notify_success(key, value=2)
    assert once.value_of("b") == ["b"]
    with pytest.raises(RuntimeError), once.take("c"):  # type: ignore[union-attr]
        raise RuntimeError
    assert once.take("c") is not None
    once.notify_success("c", value=3)
    assert once.value_of("c") == 3 and not _claims, "a million of these take no memory"


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_leaves_the_block_frees_the_key(error: type[BaseException]) -> None:
    key = once.take("k", heartbeat=True)
    assert key is not None
    with pytest.raises(error), key:
        raise error
    assert once.take("k", LONG) is not None


@pytest.mark.parametrize("how, code", [("exit", 3), ("interrupt", 130), ("raise", 1)])
def test_a_program_that_ends_in_the_block(how: str, code: int) -> None:
    process = start("leave", "k", how)
    process.communicate()
    assert process.returncode in (code, code - 132)     # -2: of SIGINT
    assert once.take("k", LONG) is not None


def test_keys_can_be_copied_and_pickled() -> None:
    key = once.take("k", LONG, 2)
    assert key is not None
    for twin in (copy.copy(key), copy.deepcopy(key), pickle.loads(pickle.dumps(key))):
        assert twin == "k_v002" and (twin.original, twin.version, twin.token, twin.claim) == ("k", 2, 1, key.claim)
    once.notify_success(twin)
    assert not key.is_mine()


def test_is_mine() -> None:
    key = once.take("k", SHORT)
    assert key is not None and key.is_mine()
    wait_for(lambda: over("k"))
    assert key.is_mine(), "nobody has taken it"
    assert wait_for(lambda: once.take("k", LONG)) and not key.is_mine()


def test_a_value_that_cannot_be_pickled_gives_the_key_back() -> None:
    key = once.take("k", heartbeat=True)
    assert key is not None
    with pytest.raises(UnpicklableError), key:
        key.value = (i for i in range(3))
    assert once.take("k", LONG) is not None


@pytest.mark.parametrize("value", [None, 1, 1.5, "ä", [1, "2", None], {"a": {"b": [True]}}, "\ud800"])
def test_plain_values_need_no_trust(value: object) -> None:
    key = once.take("k", LONG)
    assert key is not None
    once.notify_success(key, value=value)
    assert once.value_of("k") == value and once.store().value("k")[:1] == b"j"  # type: ignore[index]


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {3, 4}, b"x", 1j, [(1,)], pytest.param([-10**5000], id="long")])
def test_other_values_come_back_as_they_were(keys: KeyStore, value: object) -> None:
    key = once.take("k", LONG)
    assert key is not None
    once.notify_success(key, value=value)
    if keys.url.startswith("redis"):
        with pytest.raises(Untrusted, match="no password"):
            once.value_of("k")
        keys._trusted = True  # type: ignore[attr-defined]
    assert once.value_of("k") == value


# -- functions ---------------------------------------------------------------------------


def test_distributed_task() -> None:
    calls = []

    @once.distributed_task("t", LONG, version=4)
    def work(number: int, more: int = 0) -> int:
        """Works."""
        calls.append(number)
        return number + more
    assert work.__name__ == "work" and work.__doc__ == "Works."
    assert work(1, more=2) == (Status.COMPUTE_OK, 3)
    assert work(5) == (Status.SKIP_OK, None)
    assert calls == [1] and once.search_keys_by_prefix("") == ["t_v004"]
    assert [(s.name, s.value) for s in Status] == [("COMPUTE_OK", 1), ("COMPUTE_ERROR", 2), ("SKIP_OK", 3),
                                                   ("SKIP_IN_PROGRESS", 4)]


def test_distributed_task_at_work() -> None:
    @once.distributed_task("t", LONG)
    def work() -> object:
        return work()
    assert work() == (Status.COMPUTE_OK, (Status.SKIP_IN_PROGRESS, None))


def test_distributed_task_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    fails = [True]

    @once.distributed_task("t", LONG)
    def work() -> int:
        if fails.pop():
            raise ZeroDivisionError("of mine")
        return 1
    fails.append(False)
    fails.reverse()
    assert work() == (Status.COMPUTE_ERROR, None)
    assert "ZeroDivisionError: of mine" in capfd.readouterr().err
    assert work() == (Status.COMPUTE_OK, 1)


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_distributed_task_that_raises(error: type[BaseException]) -> None:
    @once.distributed_task("t", LONG, suppress_exception=False)
    def work() -> int:
        raise error("of mine")
    for _ in range(2):
        with pytest.raises(error, match="of mine"):
            work()


def test_distributed_task_that_is_late() -> None:
    @once.distributed_task("t", SHORT)
    def work() -> int:
        assert wait_for(lambda: once.store().claim("t", LONG, "somebody")[0])
        return 1
    with pytest.raises(once.ClaimLost, match="somebody"):
        work()


def test_distributed_task_with_a_value() -> None:
    @once.distributed_task("t", 0, heartbeat=True, store_value=True)
    def work() -> list[int]:
        return [1, 2]
    assert work() == (Status.COMPUTE_OK, [1, 2]) and work() == (Status.SKIP_OK, [1, 2])


def test_distributed_task_with_timeout_0() -> None:
    @once.distributed_task("t", 0)
    def work() -> int:
        return 1
    assert work() == (Status.COMPUTE_OK, 1) and work() == (Status.SKIP_OK, None)

    @once.distributed_task("v", 0, store_value=True)
    def kept() -> int:
        return 2
    assert kept() == (Status.COMPUTE_OK, 2) and kept() == (Status.SKIP_OK, 2)


def test_run_once_gives_everybody_the_value() -> None:
    calls = []

    @once.run_once("r")
    def work(number: int) -> dict[str, int]:
        calls.append(number)
        return {"number": number}
    assert work(1) == work(2) == {"number": 1} and calls == [1]
    with pytest.raises(InvalidArgument, match="timeout of more than 0"):
        once.run_once("r", 0)


def test_run_once_waits_if_told() -> None:
    key = once.take("r", LONG)
    assert key is not None

    @once.run_once("r")
    def at_once() -> int:
        return 1

    @once.run_once("r", wait=None)
    def patient() -> int:
        return 1
    with pytest.raises(once.InProgress, match="is at work on 'r'"):
        at_once()
    reporter = threading.Timer(0.2, once.notify_success, (key,), {"value": 7})
    reporter.start()
    assert patient() == at_once() == 7
    reporter.join()


def test_at_most_every() -> None:
    calls = []

    @once.at_most_every(seconds=0.3, key="e")
    def work(number: int) -> int:
        calls.append(number)
        return number
    begun = time.monotonic()
    while len(calls) < 2:
        number = len(calls)
        assert work(number) in (None, number)
    assert calls == [0, 1] and time.monotonic() - begun >= 0.29

    def plain() -> int:
        return 1
    assert once.at_most_every(plain, seconds=LONG, key="f")() == 1
    assert once.at_most_every(plain, seconds=LONG, key="f")() is None
    for wrong in (0, -1, None):
        with pytest.raises(InvalidArgument):
            once.at_most_every(seconds=wrong, key="e")  # type: ignore[call-overload]


# -- locks -------------------------------------------------------------------------------


def test_try_lock() -> None:
    lock = once.make_lock("k", LONG, "me")
    got, before = once.try_lock(lock)
    assert got is not None and before is None
    assert (got.global_id, got.expires_in, got.last_owner_name) == ("k", once.make_duration(LONG), "me")
    assert got.acquired_since.seconds > 0
    nothing, there = once.try_lock(once.make_lock("k", LONG, "you"))
    assert nothing is None and there is not None and there.last_owner_name == "me"
    got, before = once.try_lock(once.make_lock("k", 0, "you"), force=True)
    assert got is not None and before is not None and before.last_owner_name == "me"
    nothing, there = once.try_lock(lock)
    assert nothing is None and there is not None and there.expires_in == once.make_duration(0)


def test_try_lock_after_its_end() -> None:
    once.try_lock(once.make_lock("k", SHORT, "me"))
    got, before = wait_for(lambda: (found := once.try_lock(once.make_lock("k", LONG, "you")))[0] and found)
    assert got is not None and before is not None and before.last_owner_name == "me"


def test_locks_and_reports_meet() -> None:
    once.try_lock(once.make_lock("k", LONG))
    once.notify_success("k")
    assert once.count_keys_by_prefix("k")["success"] == 1


def test_asynchronous_names() -> None:
    heard: list[Future[Any]] = []
    once.force_lock_async(once.make_lock("k"), heard.append).result()
    assert once.count_keys_by_prefix("k")["success"] == 1
    future = once.release_lock_async("k", heard.append)
    assert future.done() and future.result() is None and once.search_keys_by_prefix("k") == []
    assert len(heard) == 2
    assert once.release_lock_async("").exception() is not None


def test_make_lock() -> None:
    lock = once.make_lock("k")
    assert lock.expires_in == once.make_duration(0) and lock.last_owner_name == once.worker_name()
    with pytest.raises(AssertionError, match="force_ascii=False"):
        once.make_lock("ä")
    assert once.try_lock(once.make_lock("ä", force_ascii=False))[0]
    duration = once.make_duration(1.25)
    assert (duration.seconds, duration.nanos, duration.total_seconds()) == (1, 250_000_000, 1.25)


def test_worker_name() -> None:
    host, pid, ppid = once.worker_name().rsplit("_", 2)
    assert host and (int(pid), int(ppid)) == (os.getpid(), os.getppid()) and len(pid) >= 5


def test_searching_and_counting() -> None:
    for key in ("a1", "a2", "b"):
        once.take(key, LONG)
    once.take("a3", 0)
    once.take("a0", SHORT)
    wait_for(lambda: over("a0"))
    time.sleep(0.05)
    assert once.search_keys_by_prefix("a") == ["a0", "a1", "a2", "a3"]
    assert once.search_keys_by_prefix("a", is_expired=True) == ["a0"]
    assert once.search_keys_by_prefix("a", is_expired=False) == ["a1", "a2", "a3"]
    assert once.count_keys_by_prefix("a") == {"expired": 1, "in_progress": 2, "success": 1}


def test_what_has_become_of_a_list() -> None:
    """Also of the keys of which nothing is known yet; a search by prefix does not see them."""
    for key in DistributedIterator(range(3), timeout=LONG, version=2):
        if key.original == 1:
            once.notify_failure(key)
        elif key.original == 2:
            once.notify_success(key)
    assert once.take("short", SHORT) and once.take("now") and wait_for(lambda: over("short"))
    done, held = once.Condition.DONE, once.Condition.IN_PROGRESS
    assert list(once.conditions_of(range(5), 2).items()) == [(0, held), (1, None), (2, done), (3, None), (4, None)]
    assert once.conditions_of(["short", "now", "x"]) == {
        "short": once.Condition.EXPIRED, "now": once.Condition.PERMANENT, "x": None}
    many = once.conditions_of([*range(2500), "2_v002"])
    assert len(many) == 2501 and [key for key, found in many.items() if found] == ["2_v002"]


def test_logging(capfd: pytest.CaptureFixture[str]) -> None:
    log = once.make_logger("another", logging.INFO)
    log.debug("no")
    log.info("yes")
    once.set_logger_level(logging.ERROR)
    once.log.warning("no")
    once.set_logger_level(logging.INFO)
    once.log.warning("also")
    once.set_logger_level("DEBUG", log)
    log.debug("now")
    lines = capfd.readouterr().err.splitlines()
    assert [line.rpartition("] ")[2] for line in lines] == ["yes", "also", "now"]
    assert re.fullmatch(r"I20\d{6} \d\d:\d\d:\d\d\.\d{6} \d+ test_run_once\.py:\d+\] yes", lines[0])
    assert lines[0][0] == "I" and lines[1][0] == "W" and f" {os.getpid()} test_run_once.py:" in lines[0]
    assert not log.propagate and once.log.name == "run_once"


def test_lock_service_client(keys: KeyStore) -> None:
    assert once.lock_service_client() is keys
    if keys.url.startswith("redis"):
        port = int(keys.url.split(":")[2].split("/")[0])
        elsewhere = once.lock_service_client("127.0.0.1", port)
        assert elsewhere.look("nothing like that") is None and elsewhere is once.lock_service_client(port=port)
        elsewhere.close()


# -- several processes -------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["1000", "heartbeat"])
def test_processes_share_a_list(tmp_path: Path, timeout: str, tried: Tried) -> None:
    log, number = tmp_path / "log", 300
    processes = [start("go_through", log, number, timeout) for _ in range(4)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert sorted(log.read_text().split()) == sorted(f"k{n}" for n in range(number))
    assert once.count_keys_by_prefix("k") == {"expired": 0, "in_progress": 0, "success": number}
    tried("keys shared by four processes", number)
