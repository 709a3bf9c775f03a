"""Every interleaving of the protocol's steps keeps its promises; with any one rule broken, some does not.

``RUNFORREST_STATES=large`` explores more faults at once: an hour and some gigabytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .protocol import (
    APPEND,
    COMMIT,
    DEAD,
    DOING,
    DONE,
    GONE,
    IDLE,
    LEAVE,
    MOVE,
    NO_BEAT,
    RUN,
    TODO,
    Found,
    Name,
    Place,
    Protocol,
    Runner,
    Size,
    State,
    Step,
    allow,
    explore,
    find,
    held,
    moved,
    text,
    then,
    with_runner,
)

Tried = Callable[[str, int], None]

SIZES = {
    "2 runners, 2 tasks": Size(2, 2),
    "2 runners, 1 task: SIGTERM, a repeated rename": Size(2, 1, told=1, repeated=1),
    "2 runners, 1 task: error, cp": Size(2, 1, keepers=1, raised=1, copied=1),
    "2 runners yet to register, 1 task: beats, error": Size(2, 1, keepers=1, late=True, beats=1, raised=1),
    "3 runners, 1 task: error, mv": Size(3, 1, raised=1, moved=1),
}
WHOLE = {
    "3 runners, 2 tasks: error, mv": Size(3, 2, raised=1, moved=1, crash_limit=2),
    "3 runners, 2 tasks: three losses": Size(3, 2),
    "2 runners, 1 task: error, mv, SIGTERM, a repeated rename": Size(2, 1, raised=1, moved=1, told=1, repeated=1),
    "2 runners yet to register, 1 task: beats, error, mv": Size(2, 1, late=True, beats=1, raised=1, moved=1),
    "2 runners, 1 task: error, cp and mv": Size(2, 1, keepers=1, raised=1, moved=1, copied=1),
}
LARGE = {
    "3 runners, 2 tasks: error, mv; three losses": Size(3, 2, raised=1, moved=1),
    "3 runners, 2 tasks: SIGTERM": Size(3, 2, told=1),
    "3 runners, 1 task: three keepers, beats, two errors, mv, SIGTERM":
        Size(3, 1, keepers=3, beats=1, raised=2, moved=1, told=1),
}


def check(name: str, size: Size, tried: Tried) -> None:
    found = explore(Protocol(size))
    assert not found.problem, story(name, found)
    tried("states of the protocol's model", found.states)
    tried("transitions between them", found.steps)
    print(f"{name}: {found.states} states, {found.steps} transitions, {found.depth} deep")


def story(name: str, found: Found) -> str:
    return "\n  ".join([f"{name}: {found.problem}", *found.trace])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SIZES)
def test_every_interleaving(name: str, tried: Tried) -> None:
    check(name, SIZES[name], tried)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", WHOLE)
def test_every_interleaving_of_more_runners_and_faults(name: str, tried: Tried) -> None:
    check(name, WHOLE[name], tried)


@pytest.mark.skipif(os.environ.get("RUNFORREST_STATES") != "large", reason="RUNFORREST_STATES=large is not set")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", LARGE)
def test_every_interleaving_of_still_more(name: str, tried: Tried) -> None:
    check(name, LARGE[name], tried)


def test_what_is_left_out_changes_nothing() -> None:
    """Without symmetry, and with every move that can only fail made all the same, the disk is in the same states."""
    class Plain(Protocol):
        names_return = True
    size = Size(keepers=1, raised=1)
    assert disks(Plain(size, symmetric=False)) == disks(Protocol(size))


def disks(protocol: Protocol) -> set[Any]:
    """What files there are in all states, whatever their runners are called."""
    seen, new = {protocol.initial()}, [protocol.initial()]
    while new:
        state = new.pop()
        assert not protocol.problem(state)
        after = {protocol.canonical(following) for _, following in protocol.steps(state)} - seen
        seen |= after
        new += after
    return {tuple((min(place, DOING), name, frames) for place, name, frames in state.files) for state in seen}


# -- one rule broken ---------------------------------------------------------------------------


class Broken(Protocol):
    names_return = True         # nothing may be taken for granted


class SharedDestination(Broken):
    """All claim to the same name.  A rename to a name that is there, from one that is gone, answers success:
    GlusterFS, MooseFS, JuiceFS and NFS do that."""

    def claims(self, state: State, r: int) -> Iterator[Step]:
        yield from super().claims(state, r)
        for place, name, _ in state.files:
            if place == DOING:
                yield f"R{r} claims from a stale listing: it is there already", then(state, r, (RUN, name))

    def claim_target(self, r: int) -> int:
        return DOING

    def holders_problem(self, state: State) -> str:
        names = [runner.next[1] for runner in state.runners if runner.next[0] in (RUN, APPEND, COMMIT)]
        return "two runners have one attempt" if len(set(names)) < len(names) else ""


class BelievesAFailedClaim(Broken):
    """ENOENT means that somebody else has it."""

    def after_failed_claim(self, mine: Name) -> tuple[Any, ...]:
        return (IDLE,)


class ConstantNames(Broken):
    """No counters in the file name."""

    def claimed(self, name: Name, inode: int) -> Name:
        return (name[0], 1, 0, name[3])


class NoTag(Broken):
    """Counters, but no tag."""

    def claimed(self, name: Name, inode: int) -> Name:
        return (name[0], name[1] + 1, 0, name[3])


class ReleaseForgetsTheTry(Broken):
    """A task that is given back gets its old name again."""

    def released(self, name: Name) -> Name:
        return (name[0], name[1] - 1, name[2], name[3])


class FenceWithoutTheBeat(Broken):
    """Whoever was silent for a lease is dead, also if it has beaten meanwhile."""

    def fence(self, state: State, v: int, beat: int) -> Iterator[Step]:
        runner = state.runners[v]
        if runner.beat not in (NO_BEAT, DEAD):
            new = with_runner(state, v, Runner(runner.home, DEAD, runner.next))
            unseen = f"R{v} has beaten since it was observed" if runner.beat != beat else ""
            yield f"a keeper declares R{v} dead", new._replace(broken=unseen)


class AppendsInPlace(Broken):
    """Also to a file that was taken over."""

    def beside(self, name: Name) -> bool:
        return False


class TakeOverLeavesNoMark(Broken):
    """Nothing in the name says that an earlier owner may have the file open."""

    def reclaimed(self, name: Name, place: int) -> Place:
        return place, name


class RenamesTheWholeFolder(TakeOverLeavesNoMark):
    """One rename takes back all tasks of a dead runner."""

    def drain(self, state: State, v: int, room: bool) -> Iterator[Step]:
        new = state
        for inode in held(state, v):
            _, name, frames = state.files[inode]
            new = moved(new, (DOING + v, name), (self.destination(name, frames, state.side), name))
        runner = state.runners[v]
        yield f"a keeper renames doing/R{v}", with_runner(new, v, Runner(0, runner.beat, runner.next))


class CopiesWhatItTakesBack(Broken):
    """Creates the task in todo/, then unlinks the claim."""

    def keeper_step(self, state: State, entry: tuple[Any, ...]) -> Iterator[Step]:
        if entry[0] == MOVE and entry[3] == TODO:
            _, v, name, _ = entry
            inode = find(state, DOING + v, name)
            if inode is not None and not name[3]:
                file = (*self.reclaimed(name, TODO), state.files[inode][2])
                yield f"a keeper copies {text(DOING + v, name)}", state._replace(files=(*state.files, file))
            return
        yield from super().keeper_step(state, entry)


class CommitsBlindly(Broken):
    """Writes the destination, then unlinks the claim, as one would without 'one file, one rename'."""

    def commit(self, state: State, r: int, name: Name, place: int) -> Iterator[Step]:
        files = tuple((GONE, *file[1:]) if file[:2] == (DOING + r, name) else file for file in state.files)
        new = state._replace(files=(*files, (place, name, (2 * name[1],))))
        yield f"R{r} replaces tmp -> {text(place, name)}", then(allow(new, name[0], -1), r, (IDLE,))


class CommitsBeforeItAppends(Broken):
    """The result follows when the task is in done/."""

    def end_of_run(self, state: State, r: int, name: Name) -> Iterator[Step]:
        inode = find(state, DOING + r, name)
        if inode is not None:
            new = moved(state, (DOING + r, name), (DONE, name))
            yield f"R{r} commits", then(new, r, (APPEND, name, inode, len(state.files[inode][2])))


class PublishesWhatIsNotComplete(Broken):
    """A dead runner's tasks count as done."""

    def destination(self, name: Name, frames: tuple[int, ...], side: frozenset[tuple[Any, ...]]) -> int:
        return DONE


class ForgetsOrphans(Broken):
    """A folder in doing/ without a heartbeat is nobody's, and a dead runner's heartbeat goes before its folder."""

    knows_orphans = False

    def drain(self, state: State, v: int, room: bool) -> Iterator[Step]:
        yield from super().drain(state, v, room)
        if not held(state, v):
            runner = state.runners[v]
            yield f"a keeper forgets R{v}", with_runner(state, v, Runner(runner.home, NO_BEAT, runner.next))


class UnbeatsBeforeRmdir(Broken):
    """A runner that leaves removes its heartbeat first; and orphans are forgotten."""

    knows_orphans = False

    def leave(self, state: State, r: int) -> Iterator[Step]:
        runner = state.runners[r]
        if runner.beat not in (NO_BEAT, DEAD):
            yield f"R{r} unlinks its heartbeat", with_runner(state, r, Runner(runner.home, NO_BEAT, (LEAVE,)))
        else:
            yield from super().leave(state, r)


class RemovesTheFolderWithWhatLandedInIt(Broken):
    """`rm -r` where rmdir would have refused."""

    def drain(self, state: State, v: int, room: bool) -> Iterator[Step]:
        yield from super().drain(state, v, room)
        runner = state.runners[v]
        files = tuple((GONE, *file[1:]) if file[0] == DOING + v else file for file in state.files)
        yield (f"a keeper removes doing/R{v} with all that is in it",
               with_runner(state._replace(files=files), v, Runner(0, runner.beat, runner.next)))


#: a rule that is broken, and the smallest list in which it shows
MUTANTS: list[tuple[type[Protocol], Size]] = [
    (SharedDestination, Size()),
    (BelievesAFailedClaim, Size()),
    (ConstantNames, Size(raised=1, moved=1, repeated=1)),
    (NoTag, Size(raised=1, moved=1, copied=1)),
    (ReleaseForgetsTheTry, Size(told=1, repeated=1)),
    (FenceWithoutTheBeat, Size(beats=1)),
    (AppendsInPlace, Size()),
    (TakeOverLeavesNoMark, Size()),
    (RenamesTheWholeFolder, Size()),
    (CopiesWhatItTakesBack, Size()),
    (CommitsBlindly, Size()),
    (CommitsBeforeItAppends, Size()),
    (PublishesWhatIsNotComplete, Size()),
    (ForgetsOrphans, Size()),
    (UnbeatsBeforeRmdir, Size(told=1)),
    (RemovesTheFolderWithWhatLandedInIt, Size()),
]


@pytest.mark.parametrize("mutant, size", [pytest.param(*each, id=each[0].__name__) for each in MUTANTS])
def test_a_broken_rule_is_noticed(mutant: type[Protocol], size: Size, tried: Tried) -> None:
    found = explore(mutant(size, symmetric=False))
    assert found.problem, f"{mutant.__name__}: {mutant.__doc__} is not noticed in {found.states} states"
    tried("rules of the protocol broken on purpose, and noticed by the model", 1)
    print(story(mutant.__name__, found))
