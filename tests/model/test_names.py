"""File names: what they say survives every trip, sorts as scheduled, and is never a path."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runforrest.model.names import MAX_ID, MAX_PRIORITY, TAGS, Name, clean_label, is_sequence, make_id

tags = st.text(TAGS, min_size=1, max_size=8)
sequences = st.datetimes().map(lambda when: f"{when.year:04d}" + when.strftime("%m%dT%H%M%S%f"))
priorities = st.integers(-MAX_PRIORITY, MAX_PRIORITY)
labels = st.text(max_size=300) | st.sampled_from(
    ["", ".", "..", "...", "/", "../../etc/passwd", "a/b", ".hidden", ".nfs0001", "x.t1-ab", "x.lost2", ".t1-ab",
     ".lost2", "x.t1-ab.lost2.pkl", "..t.t", ".lostt1", "größe", "図", "a\nb", "a\0b", "~", "-rf", " ", "x" * 400])
ids = st.builds(make_id, priorities, sequences, tags, labels)
names = st.builds(lambda id, tries, tag, lost: Name(id, tries, tag if tries else "", lost),
                  ids, st.integers(0, 10**8 - 1), tags, st.integers(0, 10**8 - 1))
file_names = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=80).map(lambda s: s + ".pkl")
suffixes = st.lists(st.sampled_from([".t1-ab", ".t2-9c1d", ".lost1", ".lost02", ".t0-ab", ".t1-AB", ".t", ".lost",
                                     "."]), max_size=4).map("".join)


@given(names)
def test_a_name_survives_its_file_name(name: Name) -> None:
    found = Name.parse(str(name))
    assert found == name and found is not None
    assert (found.id, found.tries, found.tag, found.lost) == (name.id, name.tries, name.tag, name.lost)
    assert hash(found) == hash(name)


@given(st.builds(lambda stem, end: f"{stem}{end}.pkl", st.text(max_size=20), suffixes) | file_names)
@example("x.lost2.lost1.pkl")
@example("x.t1-ab.t2-cd.pkl")
@example("x.lost1.t1-ab.pkl")
@example(".pkl.pkl")
def test_a_file_name_is_read_as_it_is_written(text: str) -> None:
    name = Name.parse(text)
    if name is not None:
        assert str(name) == text
        for later in (name.claimed("ab12"), name.taken(), name.claimed("ab12").taken()):
            assert Name.parse(str(later)) == later
            assert later.id == name.id


@given(names)
def test_claims_and_takeovers_count(name: Name) -> None:
    claimed = name.claimed("zz99")
    assert (claimed.tries, claimed.tag, claimed.lost) == (name.tries + 1, "zz99", name.lost)
    assert claimed.attempt == f"t{name.tries + 1}-zz99"
    taken = claimed.taken()
    assert (taken.attempt, taken.lost) == (claimed.attempt, name.lost + 1)
    assert taken.side() == claimed.side() == f"{name.id}.{claimed.attempt}.pkl"


@given(names)
def test_no_name_is_hidden_a_path_or_too_long(name: Name) -> None:
    for text in (str(name), name.side(), str(name)[:-4] + ".log"):
        assert "/" not in text and "\0" not in text and "\n" not in text
        assert not text.startswith(".") and text.isascii()
        assert len(text.encode()) <= 255
    assert name.side() == f"{name.id}.{name.attempt}.pkl"


@given(labels)
def test_a_label_never_reads_as_a_suffix(label: str) -> None:
    id = make_id(0, "20260101T000000000000", "ab12", label)
    name = Name.parse(id + ".pkl")
    assert name is not None
    assert (name.id, name.tries, name.lost) == (id, 0, 0)
    assert name.label == clean_label(label) != ""


@given(labels)
def test_cleaning_twice_changes_nothing(label: str) -> None:
    assert clean_label(clean_label(label)) == clean_label(label)


@pytest.mark.parametrize(("label", "kept"), [
    ("", "task"), ("..", "task"), ("a/b", "a_b"), ("../x", "_x"), ("x.t1-ab", "x_t1-ab"), ("x.lost2", "x_lost2"),
    ("größe", "gr__e"), ("run-1_a.b", "run-1_a.b"), (".nfs1", "nfs1"), ("a b", "a_b")])
def test_what_a_label_becomes(label: str, kept: str) -> None:
    assert clean_label(label) == kept


@given(priorities, sequences, tags, labels, priorities, sequences, tags, labels)
def test_order_is_priority_then_scheduling(p: int, s: str, t: str, a: str, q: int, r: str, u: str, b: str) -> None:
    first, second = str(Name(make_id(p, s, t, a))), str(Name(make_id(q, r, u, b)))
    if p != q:
        assert (first < second) == (p > q)
    elif s != r:
        assert (first < second) == (s < r)


@given(names, tags)
def test_a_claim_or_takeover_keeps_its_place_in_the_order(name: Name, tag: str) -> None:
    other = Name(make_id(-MAX_PRIORITY, "99991231T235959999999", "zzzz", "z"))
    if str(name) < str(other) and name.id != other.id:
        assert str(name.claimed(tag)) < str(other)
        assert str(name.taken()) < str(other)


@pytest.mark.parametrize("text", [
    "", ".pkl", "x", "x.txt", "x.pkl.tmp", ".x.pkl", ".nfs0000000.pkl", ".fuse_hidden0001.pkl", "x.PKL",
    "x" * (MAX_ID + 1) + ".pkl", "é" * (MAX_ID // 2 + 1) + ".pkl", "x" * 300 + ".pkl"])
def test_what_can_not_be_a_task(text: str) -> None:
    assert Name.parse(text) is None


@pytest.mark.parametrize("text", ["x.pkl", "a b.pkl", "größe.pkl", "x" * MAX_ID + ".pkl", "x.tar.pkl", "\udcff.pkl"])
def test_what_a_person_may_call_a_task(text: str) -> None:
    name = Name.parse(text)
    assert name is not None and name.id == text[:-4] and name.label == text[:-4]
    longest = Name(name.id, 999_999_999, "ab12", 999_999_999)
    assert len(str(longest).encode("utf-8", "surrogateescape")) <= 255


@pytest.mark.parametrize("text", ["x.t0-ab.pkl", "x.t01-ab.pkl", "x.t1-.pkl", "x.t1-AB.pkl", "x.t1.pkl", "x.t-ab.pkl",
                                  "x.lost0.pkl", "x.lost.pkl", "x.lost01.pkl", "x.t\N{SUPERSCRIPT TWO}-ab.pkl",
                                  "x.t1234567890-ab.pkl", "t1-ab.pkl", "lost1.pkl"])
def test_what_only_looks_like_a_suffix(text: str) -> None:
    name = Name.parse(text)
    assert name is not None and (name.id, name.tries, name.lost, name.attempt) == (text[:-4], 0, 0, "")


def test_equality_and_repr() -> None:
    assert Name("a", 1, "b") == Name("a", 1, "b") != Name("a", 1, "c")
    assert Name("a") != "a.pkl"
    assert repr(Name("a", 1, "b")) == "<Name a.t1-b.pkl>"


@given(sequences)
def test_sequences_are_recognised(sequence: str) -> None:
    assert is_sequence(sequence)
    assert not is_sequence(sequence[:-1]) and not is_sequence(sequence.replace("T", "x"))
