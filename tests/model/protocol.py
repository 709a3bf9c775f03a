"""The protocol of a task list as an explicit-state model, small enough that every interleaving is visited.

A state is what is on disk and where each runner is in its own code.  A step is one file operation, as
`runforrest.folder.transitions`, `leases` and `attempts` make them.

runners   each claims, runs, writes its frame and commits, or gives back and leaves (SIGTERM).  Nothing
          bounds the time between two of its steps: a crash is a pause without end, and who wakes up after
          its tasks were taken goes on where it stopped.
keepers   whoever watches may think any runner dead at any time: a lease that ends too early is an ordinary
          step.  Which of them it is does not matter, so the moves that they are about to make are a bag.
server    a claim that was carried out may always answer ENOENT; a rename may be carried out once more,
          later (``repeated``).  An append goes where the file ended when it was opened, as those of NFS
          clients do, and a child may die in the middle of it.
a person  ``mv fail/x todo/`` (``moved``) and ``cp done/x todo/`` (``copied``), at any time.

In every state each task is in one place, published once, whole (`Protocol.problem`), and a runner that is
alone and knows nothing but the folder brings every task to its end (`Protocol.rescue`).  So every state is
also a point at which all others have crashed.

A broken rule is a subclass that overrides what it breaks: `MUTANTS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

# Numbers, as a state is hashed a million times; no negative ones: Python hashes -1 and -2 alike.
# Where a file is; doing/R<n> is DOING + n.
TODO, DONE, FAIL, GONE, DOING = 0, 1, 2, 3, 10
# A heartbeat: 0, 1, … or
NO_BEAT, DEAD = 98, 99
# What a runner does next.
REGISTER, ANNOUNCE, IDLE, LOOK, RUN, APPEND, BURY, COMMIT, RELEASE, LEAVE, UNBEAT, LEFT = range(12)
# What a keeper does next.
FENCE, MOVE = 0, 1
# Faults that may happen only so often.
RAISED, MOVED, COPIED, REPEATED, TOLD = range(5)
TORN = 0                        # bytes in a file that are no frame

Name = tuple[int, int, int, int]                # task, tries, tag, lost
File = tuple[int, Name, tuple[int, ...]]        # place, name, its frames in order
Place = tuple[int, Name]
Step = tuple[str, "State"]


class Runner(NamedTuple):
    """One runner: whether doing/R is there, its heartbeat, what it does next."""

    home: int
    beat: int
    next: tuple[Any, ...]


class State(NamedTuple):
    """What is on disk, and what everybody is about to do."""

    files: tuple[File, ...]                     # by inode
    side: frozenset[tuple[Any, ...]]            # attempts with a frame in tries/
    runners: tuple[Runner, ...]
    keepers: tuple[tuple[Any, ...], ...]        # (FENCE, runner, beat) or (MOVE, runner, name, place)
    repeat: tuple[Any, ...]                     # the rename that the server will carry out once more
    allowed: tuple[int, ...]                    # publications that each task may still have
    budget: tuple[int, ...]
    broken: str


def frame(tries: int, raised: bool = False) -> int:
    return 2 * tries + raised


@dataclass
class Size:
    """How much is explored."""

    runners: int = 2
    tasks: int = 1
    keepers: int = 2            #: moves of keepers that may be under way at once
    raised: int = 0             #: attempts that raise, or whose child dies in the middle of its frame
    moved: int = 0              #: ``mv fail/x todo/``
    copied: int = 0             #: ``cp done/x todo/``
    repeated: int = 0           #: renames that the server carries out twice
    told: int = 0               #: SIGTERMs
    beats: int = 0              #: beats of each runner
    late: bool = False          #: runners have yet to register
    crash_limit: int = 3        #: take-overs until a task goes to fail/


class Protocol:
    """The rules as the product keeps them."""

    names_return = False        #: a file name that was left may be used again
    knows_orphans = True        #: a folder in doing/ without a heartbeat is looked at

    def __init__(self, size: Size, symmetric: bool = True) -> None:
        self.size, self.symmetric = size, symmetric
        self._rescued: dict[Any, str] = {}

    def initial(self) -> State:
        size = self.size
        runner = Runner(0, NO_BEAT, (REGISTER,)) if size.late else Runner(1, 0, (IDLE,))
        return State(tuple((TODO, (task, 0, 0, 0), ()) for task in range(size.tasks)), frozenset(),
                     (runner,) * size.runners, (), (), (1,) * size.tasks,
                     (size.raised, size.moved, size.copied, size.repeated, size.told), "")

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that can happen next."""
        for number in range(len(state.runners)):
            yield from self.runner_steps(state, number)
            yield from self.watch(state, number)
        for entry in set(state.keepers):
            yield from self.keeper_step(state, entry)
        yield from self.server_steps(state)
        yield from self.person_steps(state)

    # -- a runner --------------------------------------------------------------------------

    def runner_steps(self, state: State, r: int) -> Iterator[Step]:
        runner = state.runners[r]
        what = runner.next[0]
        if what == IDLE:
            yield from self.claims(state, r)
        elif what == LOOK:
            name = runner.next[1]
            there = (DOING + r, name) in places(state)
            yield f"R{r} looks for {text(DOING + r, name)}: {there}", then(state, r, (RUN, name) if there else (IDLE,))
        elif what == RUN:
            yield from self.end_of_run(state, r, runner.next[1])
        elif what == APPEND:
            yield from self.append(state, r, *runner.next[1:])
        elif what == BURY:
            yield from self.bury(state, r, runner.next[1])
        elif what == COMMIT:
            yield from self.commit(state, r, *runner.next[1:])
        elif what == RELEASE:
            name = runner.next[1]
            for following in (LEAVE,), (IDLE,):         # told to; or only this task could not be run here now
                yield from self.rename(state, (DOING + r, name), (TODO, self.released(name)), f"R{r} releases",
                                       r, following)
            yield f"R{r} can't release {text(DOING + r, name)}", then(state, r, (LEAVE,))
        elif what == LEAVE:
            yield from self.leave(state, r)
        elif what == UNBEAT:
            beat = runner.beat if runner.beat == DEAD else NO_BEAT
            yield f"R{r} unlinks its heartbeat", with_runner(state, r, Runner(runner.home, beat, (LEFT,)))
        elif what == REGISTER:
            yield f"R{r} makes doing/R{r}", with_runner(state, r, Runner(1, NO_BEAT, (ANNOUNCE,)))
        elif what == ANNOUNCE:
            yield f"R{r} creates its heartbeat", with_runner(state, r, Runner(runner.home, 0, (IDLE,)))
        if what in (IDLE, RUN) and state.budget[TOLD]:
            yield f"R{r} is told to leave", then(spend(state, TOLD), r,
                                                 (LEAVE,) if what == IDLE else (RELEASE, runner.next[1]))
        if what not in (LEAVE, UNBEAT, LEFT) and runner.beat < self.size.beats:
            yield f"R{r} beats", with_runner(state, r, Runner(runner.home, runner.beat + 1, runner.next))

    def claims(self, state: State, r: int) -> Iterator[Step]:
        if not state.runners[r].home:
            return
        for inode, (place, name, _) in enumerate(state.files):
            if place == TODO:
                mine = self.claimed(name, inode)
                target = self.claim_target(r)
                new = moved(state, (TODO, name), (target, mine))
                label = f"R{r} claims: {text(TODO, name)} -> {text(target, mine)}"
                yield label, then(new, r, (RUN, mine))
                yield f"{label}, is told ENOENT", then(new, r, self.after_failed_claim(mine))
                yield from self.repeated(label, then(new, r, (RUN, mine)), (TODO, name), (target, mine))

    def claimed(self, name: Name, inode: int) -> Name:
        """The name after a claim; a file's own number does for a fresh tag, as tries grows with each claim of it."""
        task, tries, _, lost = name
        return task, tries + 1, inode if inode >= self.size.tasks else 0, lost

    def claim_target(self, r: int) -> int:
        return DOING + r

    def after_failed_claim(self, mine: Name) -> tuple[Any, ...]:
        return LOOK, mine

    def released(self, name: Name) -> Name:
        return name

    def end_of_run(self, state: State, r: int, name: Name) -> Iterator[Step]:
        """The child has run and writes its frame: into its own file, or after a take-over into tries/."""
        if self.beside(name):
            for label, raised, paid in outcomes(state):
                made = paid._replace(side=paid.side | {(*name[:3], raised)})
                for place in self.ends_in(raised):
                    yield f"R{r} writes a side file, {label}", then(made, r, (COMMIT, name, place))
            return
        inode = find(state, DOING + r, name)
        if inode is None:
            yield f"R{r} finds its file gone", then(state, r, (IDLE,))
        else:
            end = len(state.files[inode][2])
            yield f"R{r} opens {text(DOING + r, name)} at {end}", then(state, r, (APPEND, name, inode, end))

    def beside(self, name: Name) -> bool:
        """An earlier owner may have it open still."""
        return name[3] > 0

    def ends_in(self, raised: bool) -> tuple[int, ...]:
        return (FAIL, TODO) if raised else (DONE,)

    def append(self, state: State, r: int, name: Name, inode: int, end: int) -> Iterator[Step]:
        for label, raised, paid in outcomes(state):
            written = write(paid, inode, end, frame(name[1], raised))
            for place in self.ends_in(raised):
                yield f"R{r} appends at {end}, {label}", then(written, r, (COMMIT, name, place))
        if state.budget[RAISED]:
            torn = write(spend(state, RAISED), inode, end, TORN)
            yield f"R{r}: the child dies while it appends", then(torn, r, (BURY, name))

    def bury(self, state: State, r: int, name: Name) -> Iterator[Step]:
        """The guard cuts off what the dead child left, and appends the record of the failure."""
        inode = find(state, DOING + r, name)
        if inode is None:
            yield f"R{r} finds its file gone", then(state, r, (IDLE,))
            return
        frames = state.files[inode][2]
        end = frames.index(TORN) if TORN in frames else len(frames)
        written = write(state, inode, end, frame(name[1], True))
        for place in self.ends_in(True):
            yield f"R{r} writes the record of the crash", then(written, r, (COMMIT, name, place))

    def commit(self, state: State, r: int, name: Name, place: int) -> Iterator[Step]:
        yield from self.rename(state, (DOING + r, name), (place, name), f"R{r} commits", r, (IDLE,))

    def leave(self, state: State, r: int) -> Iterator[Step]:
        """First the folder, then the heartbeat."""
        if held(state, r):
            yield f"R{r} leaves what is in doing/R{r} to the others", then(state, r, (LEFT,))
        else:
            runner = state.runners[r]
            yield f"R{r} removes doing/R{r}", with_runner(state, r, Runner(0, runner.beat, (UNBEAT,)))

    # -- the keepers -----------------------------------------------------------------------

    def watch(self, state: State, v: int) -> Iterator[Step]:
        """What a keeper may find out about a runner."""
        runner = state.runners[v]
        room = len(state.keepers) < self.size.keepers
        if runner.beat not in (NO_BEAT, DEAD):
            if not self.size.beats:
                yield f"a keeper declares R{v} dead", with_runner(state, v, Runner(runner.home, DEAD, runner.next))
            elif room:
                yield f"a keeper has seen R{v}@{runner.beat} for a lease", add(state, (FENCE, v, runner.beat))
        elif runner.home and (runner.beat == DEAD or self.knows_orphans):
            yield from self.drain(state, v, room)
        elif runner.beat == DEAD:
            yield f"a keeper unlinks hb/R{v}@dead", with_runner(state, v, Runner(0, NO_BEAT, runner.next))

    def drain(self, state: State, v: int, room: bool) -> Iterator[Step]:
        """Look at each task of a dead runner; remove its folder, which works only when nothing is in it."""
        mine = held(state, v)
        for inode in mine if room else ():
            _, name, frames = state.files[inode]
            place = self.destination(name, frames, state.side)
            entry = (MOVE, v, name, place)
            if entry not in state.keepers:
                yield f"a keeper reads {text(DOING + v, name)}", add(state, entry)
        if not mine:
            runner = state.runners[v]
            yield f"a keeper removes doing/R{v}", with_runner(state, v, Runner(0, runner.beat, runner.next))

    def destination(self, name: Name, frames: tuple[int, ...], side: frozenset[tuple[Any, ...]]) -> int:
        """Where a task of a dead runner belongs: a complete frame of its try is rolled forward."""
        for raised in (False, True):
            if frame(name[1], raised) in frames or (*name[:3], raised) in side:
                return FAIL if raised else DONE
        return TODO

    def reclaimed(self, name: Name, place: int) -> Place:
        """Its place and name when it is taken back."""
        if place != TODO:
            return place, name
        task, tries, tag, lost = name
        return (FAIL if lost + 1 >= self.size.crash_limit else TODO), (task, tries, tag, lost + 1)

    def keeper_step(self, state: State, entry: tuple[Any, ...]) -> Iterator[Step]:
        keepers = list(state.keepers)
        keepers.remove(entry)
        free = state._replace(keepers=tuple(keepers))
        if entry[0] == FENCE:
            yield from self.fence(free, *entry[1:])
        else:
            _, v, name, place = entry
            yield from self.rename(free, (DOING + v, name), self.reclaimed(name, place), "a keeper takes back")

    def fence(self, state: State, v: int, beat: int) -> Iterator[Step]:
        runner = state.runners[v]
        if runner.beat == beat:         # else the rename finds no such name
            yield f"a keeper declares R{v} dead", with_runner(state, v, Runner(runner.home, DEAD, runner.next))

    # -- the server, and a person ------------------------------------------------------------

    def rename(self, state: State, source: Place, target: Place, label: str, r: int | None = None,
               following: tuple[Any, ...] = ()) -> Iterator[Step]:
        """One rename out of doing/.  Whatever it answers, who asked looks for the target and goes on."""
        new = moved(state, source, target)
        after = new if r is None else then(new, r, following)
        label = f"{label}: {text(*source)} -> {text(*target)}" + (", ENOENT" if new is state else "")
        yield label, after
        if new is not state:
            yield from self.repeated(label, after, source, target)

    def repeated(self, label: str, after: State, source: Place, target: Place) -> Iterator[Step]:
        if after.budget[REPEATED] and not after.repeat:
            yield f"{label}, to be repeated", spend(after, REPEATED)._replace(repeat=(*source, *target))

    def server_steps(self, state: State) -> Iterator[Step]:
        if state.repeat:
            place, name, to, other = state.repeat
            yield (f"the server repeats {text(place, name)} -> {text(to, other)}",
                   moved(state._replace(repeat=()), (place, name), (to, other)))

    def person_steps(self, state: State) -> Iterator[Step]:
        if not (state.budget[MOVED] or state.budget[COPIED]):
            return
        for place, name, frames in state.files:
            if place not in (DONE, FAIL) or (TODO, name) in places(state):
                continue
            if place == FAIL and state.budget[MOVED]:
                new = moved(spend(state, MOVED), (FAIL, name), (TODO, name))
                yield f"a person: mv {text(FAIL, name)} todo/", allow(new, name[0])
            if state.budget[COPIED]:
                new = spend(state, COPIED)
                yield (f"a person: cp {text(place, name)} todo/",
                       allow(new._replace(files=(*new.files, (TODO, name, frames))), name[0]))

    # -- what must hold ----------------------------------------------------------------------

    def problem(self, state: State) -> str:
        """What is wrong with this state; '' if nothing is."""
        return (state.broken or self.places_problem(state) or self.results_problem(state)
                or self.holders_problem(state) or self.rescue(state))

    def places_problem(self, state: State) -> str:
        found = [0] * self.size.tasks
        for place, name, _ in state.files:
            found[name[0]] += place != GONE
        most = 1 + self.size.copied - state.budget[COPIED]
        for task, number in enumerate(found):
            if not 1 <= number <= most:
                return f"task {task} is in {number} places"
            if state.allowed[task] < 0:
                return f"task {task} is published too often"
        return ""

    def results_problem(self, state: State) -> str:
        for place, name, frames in state.files:
            if place in (DONE, FAIL) and not self.has_result(place, name, frames, state.side):
                return f"{text(place, name)} lacks the result of its try"
        return ""

    def has_result(self, place: int, name: Name, frames: tuple[int, ...], side: frozenset[tuple[Any, ...]]) -> bool:
        if place == FAIL and name[3] >= self.size.crash_limit:
            return True                 # the record of the loss is beside it
        raised = place == FAIL
        return frame(name[1], raised) in frames or (*name[:3], raised) in side

    def holders_problem(self, state: State) -> str:
        """A claim is known to its runner if that lives, and to no other."""
        claims = [runner.next[1] for runner in state.runners if LOOK <= runner.next[0] <= RELEASE]
        if len(set(claims)) < len(claims):
            return "two runners have one attempt"
        for place, name, _ in state.files:
            if place >= DOING:
                _, beat, following = state.runners[place - DOING]
                if beat not in (NO_BEAT, DEAD) and following[0] == IDLE:
                    return f"{text(place, name)} is held by a live runner that does not know it"
        return ""

    def rescue(self, state: State) -> str:
        """All others have crashed in this state; a new runner drains their folders and runs what is in todo/."""
        key = (state.files, state.side) if self.knows_orphans else (state.files, state.side, state.runners)
        if key not in self._rescued:
            self._rescued[key] = self._rescue(state._replace(repeat=()))
        return self._rescued[key]

    def _rescue(self, state: State) -> str:
        for place, name, frames in state.files:
            if place >= DOING:
                if not self.knows_orphans and state.runners[place - DOING].beat == NO_BEAT:
                    return f"{text(place, name)} is looked at by nobody any more"
                target = self.reclaimed(name, self.destination(name, frames, state.side))
                state = moved(state, (place, name), target)
        for inode, (place, name, _) in enumerate(state.files):
            if place == TODO:
                mine = self.claimed(name, inode)
                if self.beside(mine):
                    state = state._replace(side=state.side | {(*mine[:3], False)})
                else:
                    state = write(state, inode, len(state.files[inode][2]), frame(mine[1]))
                state = allow(moved(moved(state, (TODO, name), (DOING, mine)), (DOING, mine), (DONE, mine)), mine[0])
        problem = state.broken or self.places_problem(state) or self.results_problem(state)
        return f"rescued: {problem}" if problem else ""

    # -- states that mean the same -----------------------------------------------------------

    def canonical(self, state: State) -> State:
        """The same state in a certain order of runners and tasks, and without what can only fail."""
        if not self.names_return:
            state = self.without_hopeless(state)
        if not self.symmetric:
            return state
        if len(state.files) == 2 == self.size.tasks and rank(state.files[1]) < rank(state.files[0]):
            state = swapped(state)
        refers = [hash(runner) & 0xffffffffffff for runner in state.runners]
        for inode, (place, _, _) in enumerate(state.files):
            if place >= DOING:
                refers[place - DOING] += (inode + 1) << 50
        for entry in state.keepers:
            refers[entry[1]] += (hash((entry[0], *entry[2:])) & 0xffffffff) << 60
        for at in (0, 2) if state.repeat else ():
            if state.repeat[at] >= DOING:
                refers[state.repeat[at] - DOING] += 1 << (110 + at)
        order = sorted(range(len(refers)), key=refers.__getitem__)
        return state if order == sorted(order) else renumbered(state, order)

    def without_hopeless(self, state: State) -> State:
        """What is about to be done to a name that is gone can only fail, since no name comes back: it is over."""
        there = places(state)
        if state.keepers:
            kept = tuple(k for k in state.keepers if (
                state.runners[k[1]].beat == k[2] if k[0] == FENCE else (DOING + k[1], k[2]) in there))
            if len(kept) < len(state.keepers):
                state = state._replace(keepers=kept)
        for r, runner in enumerate(state.runners):
            what = runner.next[0]
            waits = what in (LOOK, BURY, COMMIT) or (what == RUN and not self.beside(runner.next[1]))
            if waits and (DOING + r, runner.next[1]) not in there:
                state = then(state, r, (IDLE,))
        if state.repeat and not self.size.copied and state.repeat[:2] not in there:
            state = state._replace(repeat=())
        return state


# -- parts of steps --------------------------------------------------------------------------


def text(place: int, name: Name) -> str:
    folder = f"doing/R{place - DOING}" if place >= DOING else ("todo", "done", "fail", "gone")[place]
    task, tries, tag, lost = name
    return f"{folder}/{'xyz'[task]}{f'.t{tries}-{tag}' if tries else ''}{f'.lost{lost}' if lost else ''}"


def places(state: State) -> list[Place]:
    return [file[:2] for file in state.files]


def find(state: State, place: int, name: Name) -> int | None:
    for inode, file in enumerate(state.files):
        if file[1] == name and file[0] == place:
            return inode
    return None


def held(state: State, r: int) -> list[int]:
    return [inode for inode, file in enumerate(state.files) if file[0] == DOING + r]


def moved(state: State, source: Place, target: Place) -> State:
    """After one rename; the very same state if the source, or the folder of the target, is not there."""
    inode = find(state, *source)
    if inode is None or (target[0] >= DOING and not state.runners[target[0] - DOING].home):
        return state
    files, broken = list(state.files), state.broken
    replaced = find(state, *target)
    if replaced is not None and replaced != inode:
        more = set(files[replaced][2]) - set(files[inode][2]) or (*target[1][:3], False) in state.side
        broken = broken or (f"{text(*source)} replaces {text(*target)}" if more else "")
        files[replaced] = (GONE, *files[replaced][1:])
    files[inode] = (*target, files[inode][2])
    new = state._replace(files=tuple(files), broken=broken)
    return allow(new, target[1][0], -1) if source[0] >= DOING and target[0] in (DONE, FAIL) else new


def allow(state: State, task: int, number: int = 1) -> State:
    allowed = state.allowed
    return state._replace(allowed=(*allowed[:task], allowed[task] + number, *allowed[task + 1:]))


def write(state: State, inode: int, at: int, what: int) -> State:
    place, name, frames = state.files[inode]
    file = (place, name, (*frames[:at], what, *frames[at + 1:]))
    return state._replace(files=(*state.files[:inode], file, *state.files[inode + 1:]))


def spend(state: State, fault: int) -> State:
    budget = state.budget
    return state._replace(budget=(*budget[:fault], budget[fault] - 1, *budget[fault + 1:]))


def with_runner(state: State, r: int, runner: Runner) -> State:
    return state._replace(runners=(*state.runners[:r], runner, *state.runners[r + 1:]))


def then(state: State, r: int, following: tuple[Any, ...]) -> State:
    home, beat, _ = state.runners[r]
    return with_runner(state, r, Runner(home, beat, following))


def add(state: State, entry: tuple[Any, ...]) -> State:
    return state._replace(keepers=tuple(sorted((*state.keepers, entry))))


def outcomes(state: State) -> Iterator[tuple[str, bool, State]]:
    yield "returned", False, state
    if state.budget[RAISED]:
        yield "raised", True, spend(state, RAISED)


def rank(file: File) -> tuple[Any, ...]:
    place, name, frames = file
    return name[1:], min(place, DOING), frames


def swapped(state: State) -> State:
    """The same with the two tasks in the other order."""
    def other(name: Name) -> Name:
        return (1 - name[0], *name[1:])

    def following(what: int, *rest: Any) -> tuple[Any, ...]:
        return (what, other(rest[0]), *((1 - rest[1], *rest[2:]) if what == APPEND else rest[1:])) if rest else (what,)

    repeat = state.repeat
    return State(
        tuple((place, other(name), frames) for place, name, frames in reversed(state.files)),
        frozenset((*other(attempt[:3]), *attempt[3:]) for attempt in state.side),
        tuple(Runner(home, beat, following(*what)) for home, beat, what in state.runners),
        tuple(sorted((MOVE, k[1], other(k[2]), k[3]) if k[0] == MOVE else k for k in state.keepers)),
        (repeat[0], other(repeat[1]), repeat[2], other(repeat[3])) if repeat else (),
        state.allowed[::-1], state.budget, state.broken)


def renumbered(state: State, order: list[int]) -> State:
    """The same with other numbers for the runners."""
    new = {DOING + old: DOING + at for at, old in enumerate(order)}
    repeat = state.repeat
    if repeat:
        repeat = (new.get(repeat[0], repeat[0]), repeat[1], new.get(repeat[2], repeat[2]), repeat[3])
    return State(
        tuple((new.get(place, place), name, frames) for place, name, frames in state.files), state.side,
        tuple(state.runners[old] for old in order),
        tuple(sorted((k[0], new[DOING + k[1]] - DOING, *k[2:]) for k in state.keepers)),
        repeat, state.allowed, state.budget, state.broken)


# -- the search --------------------------------------------------------------------------------


@dataclass
class Found:
    """What a search has seen: ``problem`` with the shortest ``trace`` that leads to it, if there is one."""

    states: int = 0
    steps: int = 0
    depth: int = 0
    problem: str = ""
    trace: tuple[str, ...] = ()


def explore(protocol: Protocol) -> Found:
    """Visit every state, breadth first.  Only hashes of 64 bits are kept of what was seen: that two of ten
    million states share one has a chance below 1e-5.
    """
    found = Found()
    first = protocol.initial()
    came_from: dict[int, int] = {hash(first): 0}
    level = [first]
    while level:
        following = []
        for state in level:
            found.states += 1
            found.problem = protocol.problem(state)
            if found.problem:
                found.trace = trace(protocol, first, hash(state), came_from)
                return found
            here = hash(state)
            for _, new in protocol.steps(state):
                found.steps += 1
                if new is state:
                    continue
                new = protocol.canonical(new)
                key = hash(new)
                if key not in came_from:
                    came_from[key] = here
                    following.append(new)
        level = following
        found.depth += 1
    return found


def trace(protocol: Protocol, first: State, last: int, came_from: dict[int, int]) -> tuple[str, ...]:
    """The steps from the first state to this one."""
    path = [last]
    while came_from[path[-1]]:
        path.append(came_from[path[-1]])
    labels, state = [], first
    for wanted in reversed(path[:-1]):
        for label, new in protocol.steps(state):
            new = protocol.canonical(new)
            if hash(new) == wanted:
                labels.append(label)
                state = new
                break
    return tuple(labels)
