"""Names of files of keys: any text is one, and comes back from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runforrest.once import names
from runforrest.once.names import State, parse, quote, unquote
from runforrest.once.view import Shard

STATE = State("k", "lineage1", 3, "tag123", names.LEASED, 1500, "host_1_2")


@given(st.text(min_size=1), st.booleans())
def test_quoting(key: str, fold: bool) -> None:
    quoted = quote(key, fold)
    assert len(quoted) <= names.LONGEST and quoted.isascii() and quoted.isprintable()
    assert not set(quoted) & set("/~ \0*?'\"\\") and not quoted.startswith(".")
    assert unquote(quoted) in (key, None) and (unquote(quoted) == key or len(quoted) > 60)


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_keys_have_two_names(one: str, other: str) -> None:
    if one != other:
        assert quote(one) != quote(other)
        assert quote(one, fold=True).lower() != quote(other, fold=True).lower()


@pytest.mark.parametrize("key", ["%h", "%2F", "a" * 500, "é" * 500, "a" * 59 + "é" * 99, "k~l~1~t~D~o"])
def test_quoting_of_what_looks_like_a_quote(key: str) -> None:
    quoted = quote(key)
    assert len(quoted) <= names.LONGEST and parse(quoted) is None
    assert unquote(quoted) == (key if len(key) < 100 and "é" not in key else None)


@pytest.mark.parametrize("state", [
    STATE, STATE._replace(code=names.HEARTBEAT, milliseconds=0), STATE._replace(code=names.DONE, milliseconds=0),
    STATE._replace(quoted=quote("ä/ö"), token=10**9)])
def test_states(state: State) -> None:
    assert parse(str(state)) == state and len(str(state)) < 255


@pytest.mark.parametrize("name", ["k", "k~l", "k~l~1~t~D", "k~l~1~t~D~o~p", "k~l~x~t~D~o", "k~l~1~t~X~o", "k~l~1~t~L~o",
                                  "k~l~1~t~D5~o", "k~l~1~t~~o", "k~l~-1~t~D~o", ""])
def test_what_is_no_state(name: str) -> None:
    assert parse(name) is None


def test_the_longest_name_fits() -> None:
    state = STATE._replace(quoted=quote("é" * 999), owner=names.owner_part("x" * 999), token=10**11,
                           milliseconds=10**13)
    assert len(str(state)) <= 255


def test_keys_are_spread_evenly() -> None:
    counts: dict[str, int] = {}
    for n in range(10_000):
        shard = names.shard_of(f"k{n}", 256)
        counts[shard] = counts.get(shard, 0) + 1
    assert len(counts) == 256 and max(counts.values()) < 100 and set(map(len, counts)) == {2}
    assert names.shard_of("k", 1) == "0"


# -- listings ----------------------------------------------------------------------------


def test_a_listing_that_shows_a_file_twice() -> None:
    """It was renamed meanwhile."""
    later = STATE._replace(code=names.DONE, milliseconds=0)
    assert Shard("00", ["k", str(STATE), str(later)]).state("k") == later
    assert Shard("00", [str(later), "k", str(STATE)]).state("k") == later
    taken = STATE._replace(token=4)
    assert Shard("00", [str(taken), str(later._replace(code=names.FREE)), "k"]).state("k") == taken


def test_a_listing_with_what_does_not_count() -> None:
    assert Shard("00", [str(STATE)]).state("k") is None, "nobody has come to the anchor"
    other = STATE._replace(lineage="another1")
    shard = Shard("00", [str(STATE), "k", str(other)])
    assert shard.state("k") is None and sorted(shard.doubtful["k"]) == sorted([STATE, other])
    shard.set(other)
    assert shard.state("k") == other


def test_what_is_remembered_of_what_is_done() -> None:
    done = STATE._replace(quoted="d", code=names.VALUE, milliseconds=0)
    shard = Shard("00", ["k", "d", str(STATE), str(done)])
    shard.compact()
    assert shard.done == {"d"} and list(shard.states()) == [STATE]


def test_old_news() -> None:
    shard = Shard("00")
    shard.set(STATE._replace(code=names.FREE, milliseconds=0))
    shard.set(STATE)
    state = shard.state("k")
    assert state is not None and state.code == names.FREE
