"""What both stores must do, asked of a folder and of a real server."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runforrest.once.errors import AlreadyDone, ClaimLost, KeyStoreError
from runforrest.once.model import Claim, Condition, Entry, KeyStore
from tests.helpers import wait_for
from tests.once.conftest import BEAT, LEASE

Tried = Callable[[str, int], None]
LONG, SHORT = 1000.0, 0.05


def claim(store: KeyStore, key: str = "k", timeout: float | None = LONG) -> Claim:
    found, _ = store.claim(key, timeout, "me")
    assert found is not None
    return found


def look(store: KeyStore, key: str = "k") -> Entry:
    found = store.look(key)
    assert found is not None
    return found


def expired(store: KeyStore, key: str = "k") -> Claim:
    found = claim(store, key, SHORT)
    wait_for(lambda: look(store, key).condition is Condition.EXPIRED)
    return found


def taken_over(store: KeyStore) -> tuple[Claim, Entry | None]:
    """Two processes may differ by some milliseconds about the end of a lease."""
    found: list[tuple[Claim, Entry | None]] = []

    def take() -> bool:
        theirs, before = store.claim("k", LONG, "you")
        if theirs is not None:
            found.append((theirs, before))
        return bool(found)
    wait_for(take)
    return found[0]


def test_a_key_is_claimed_once(store: KeyStore, other: KeyStore) -> None:
    mine, before = store.claim("k", LONG, "me")
    assert mine is not None and before is None and mine.token == 1
    theirs, there = other.claim("k", LONG, "you")
    assert theirs is None and there is not None
    assert (there.condition, there.owner, there.token, there.timeout) == (Condition.IN_PROGRESS, "me", 1, LONG)
    assert store.claim("k", LONG, "me")[0] is None, "nor by its owner once more"


def test_success_is_for_good(store: KeyStore, other: KeyStore) -> None:
    store.confirm(claim(store))
    assert look(other).condition is Condition.DONE and not look(other).has_value
    assert other.claim("k", LONG, "you")[0] is None
    assert other.value("k") is None


def test_a_second_success_is_an_error(store: KeyStore) -> None:
    mine = claim(store)
    store.confirm(mine)
    with pytest.raises(AlreadyDone, match="Completed more than once"):
        store.confirm(mine)
    assert look(store).condition is Condition.DONE


def test_a_report_that_is_sent_again_is_no_second_success(store: KeyStore) -> None:
    mine = claim(store)
    store.confirm(mine, b"value", "report")
    store.confirm(mine, b"value", "report")
    assert store.value("k") == b"value"


def test_what_is_released_can_be_claimed_at_once(store: KeyStore, other: KeyStore) -> None:
    mine = claim(store)
    assert store.release(mine)
    assert other.look("k") is None
    theirs, before = other.claim("k", LONG, "you")
    assert theirs is not None and before is None and theirs.token == 2
    assert not store.release(mine), "it is another's now"
    assert look(store).condition is Condition.IN_PROGRESS


def test_a_lease_that_is_over_can_be_taken(store: KeyStore, other: KeyStore) -> None:
    late = expired(store)
    theirs, before = taken_over(other)
    assert before is not None and theirs.token == 2
    assert (before.condition, before.owner) == (Condition.EXPIRED, "me")
    assert store.claim("k", LONG, "me")[0] is None, "the new lease has begun"
    with pytest.raises(ClaimLost, match="you has it now, with token 2") as caught:
        store.confirm(late, b"late")
    assert (caught.value.token, caught.value.owner, caught.value.owner_token) == (1, "you", 2)  # type: ignore[attr-defined]
    assert not store.release(late)
    other.confirm(theirs, b"in time")
    with pytest.raises(ClaimLost, match="you has done it, with token 2"):
        store.confirm(late, b"late")
    assert store.value("k") == b"in time"


def test_a_late_owner_may_confirm_what_nobody_has_taken(store: KeyStore) -> None:
    store.confirm(expired(store))
    assert look(store).condition is Condition.DONE


def test_a_late_owner_of_what_was_given_back(store: KeyStore, other: KeyStore) -> None:
    late = expired(store)
    other.release(taken_over(other)[0])
    with pytest.raises(ClaimLost, match="it is free again"):
        store.confirm(late)


def test_timeout_0_is_permanent_at_once(store: KeyStore, other: KeyStore) -> None:
    mine = claim(store, timeout=0.0)
    assert look(other).condition is Condition.PERMANENT and look(other).condition.success
    assert other.claim("k", LONG, "you")[0] is None
    with pytest.raises(AlreadyDone, match="timeout 0"):
        store.confirm(mine)
    assert store.release(mine) and store.look("k") is None


def test_force_takes_whatever_there_is(store: KeyStore, other: KeyStore) -> None:
    mine = claim(store)
    theirs, before = other.claim("k", LONG, "you", force=True)
    assert theirs is not None and theirs.token == 2 and before is not None and before.owner == "me"
    with pytest.raises(ClaimLost):
        store.confirm(mine)
    other.confirm(theirs, b"value")
    again, _ = store.claim("k", 0.0, "me", force=True)
    assert again is not None and again.token == 3 and look(store).condition is Condition.PERMANENT
    assert store.value("k") is None


def test_forgetting(store: KeyStore, other: KeyStore) -> None:
    mine = claim(store)
    store.confirm(mine, b"value")
    other.forget("k")
    assert store.look("k") is None and store.value("k") is None and list(store.entries("")) == []
    theirs = claim(other)
    assert theirs.token > mine.token, "tokens grow"
    store.forget("never there")
    with pytest.raises(ClaimLost):
        store.confirm(mine)


def test_values(store: KeyStore, other: KeyStore) -> None:
    for value in (b"", b"\0\xff\n", bytes(1 << 20)):
        key = f"k{len(value)}"
        store.confirm(claim(store, key), value)
        assert other.value(key) == value and look(other, key).has_value


def test_one_of_several_keys(store: KeyStore, other: KeyStore) -> None:
    store.confirm(claim(store, "a"))
    claim(store, "b")
    expired(store, "c")
    wait_for(lambda: look(other, "c").condition is Condition.EXPIRED)   # processes differ by some milliseconds
    found, over, crowded = other.claim_any(["a", "b", "c", "d"], LONG, "you")
    assert found is not None and (found.key, over, crowded) == ("c", 2, False)
    found, over, _ = other.claim_any(["a", "b", "c"], LONG, "you")
    assert found is None and 1 <= over <= 3
    store.release(claim(store, "e"))
    found, over, _ = other.claim_any(["e", "d"], None, "you")
    assert found is not None and (found.key, over, found.timeout) == ("e", 0, None)


def test_entries(store: KeyStore) -> None:
    for key in ("a1", "a2", "b1", "a", "A", "ä"):
        claim(store, key)
    store.confirm(claim(store, "a3"))
    store.release(claim(store, "a4"))
    expired(store, "a5")
    assert sorted(e.key for e in store.entries("a")) == ["a", "a1", "a2", "a3", "a5"]
    assert {e.key: e.condition for e in store.entries("a")}["a5"] is Condition.EXPIRED
    assert len(list(store.entries(""))) == 8 and [e.key for e in store.entries("ä")] == ["ä"]
    assert list(store.entries("nothing")) == []


def test_since_is_about_now(store: KeyStore) -> None:
    claim(store)
    assert abs(look(store).since - time.time()) < 60


def test_claims_can_be_pickled(store: KeyStore, other: KeyStore) -> None:
    mine = pickle.loads(pickle.dumps(claim(store)))
    other.confirm(mine)
    assert look(store).condition is Condition.DONE


def test_a_claim_of_elsewhere(store: KeyStore) -> None:
    with pytest.raises(KeyStoreError, match="was not made in"):
        store.confirm(Claim("k", 1, "nonsense", 1.0))


@given(key=st.text(min_size=1, max_size=80))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("more", ["", "/x" * 100, "é" * 300])
def test_any_text_is_a_key(store: KeyStore, more: str, key: str) -> None:
    key += more
    if len(key.encode("utf-8", "surrogatepass")) > 1024:
        return
    mine, _ = store.claim(key, LONG, "me", force=True)
    assert mine is not None and mine.key == key
    assert look(store, key).key == key
    assert key in {entry.key for entry in store.entries(key[:3])}
    store.confirm(mine, b"x")
    assert store.value(key) == b"x"


# -- hearts ------------------------------------------------------------------------------


def test_what_a_heart_keeps_is_kept(store: KeyStore, other: KeyStore) -> None:
    mine = claim(store, timeout=None)
    for _ in range(2 * LEASE):
        assert other.claim("k", None, "you")[0] is None
        time.sleep(BEAT)
    assert look(other).condition is Condition.IN_PROGRESS and look(other).timeout is None
    store.confirm(mine)
    assert look(other).condition is Condition.DONE


def test_who_leaves_gives_up_its_keys_at_once(address: str, store: KeyStore, other: KeyStore) -> None:
    mine = claim(other, timeout=None)
    assert store.claim("k", None, "me")[0] is None
    other.close()
    wait_for(lambda: store.claim("k", None, "me")[0], what="the key of who has left")
    with pytest.raises(ClaimLost):
        other.confirm(mine)


def test_a_heart_that_stops_loses_its_keys(store: KeyStore, other: KeyStore) -> None:
    """Its process lives, so only the lease tells."""
    mine = claim(other, timeout=None)
    other.hearts._leaving.set()                 # type: ignore[attr-defined]
    theirs = wait_for(lambda: store.claim("k", None, "me")[0], what="the key of a heart that has stopped")
    with pytest.raises(ClaimLost):
        other.confirm(mine)
    store.confirm(theirs)


def test_many_threads_and_one_key(store: KeyStore, other: KeyStore, tried: Tried) -> None:
    won: list[str] = []

    def run(place: KeyStore) -> None:
        for n in range(40):
            if place.claim(f"k{n}", LONG, "me")[0]:
                won.append(f"k{n}")

    threads = [threading.Thread(target=run, args=(place,)) for place in (store, other) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(f"k{n}" for n in range(40))
    tried("keys for which six threads raced", 40)
