"""What is wrong with a list, and what would be done about it.  Pure: from a picture of the list to a plan.

The rule: what a person may have meant is told and left alone.  A copy that somebody has put into todo/ to run a
task again is legal, so of two whole copies one is set aside only if no `cp` of the other can have made it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from runforrest.doctor.survey import ALIVE, GONE, NOBODY, TORN, WHOLE, Copy, Leftover, Peer, Picture
from runforrest.folder import layout, requests
from runforrest.model import outcomes

DAY = 86400.0
SEEN_SECONDS = 60.0                # what is as old as that is not seen before the runner or task that it is about

#: what can be done: methods of `runforrest.doctor.mend.Mender`
MAKE_FOLDER, COMPLETE, NEW_SETTINGS, TAKE_BACK, WATCH, FORCE, ASIDE, FAIL, REQUEUE, REMOVE, FORGET, END = (
    "make_folder", "complete", "new_settings", "take_back", "watch", "force", "aside", "fail", "requeue", "remove",
    "forget", "end")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    where   path in the list; ``what``: what is the matter with it
    action  what would be done, '' if it is only told; ``do``: the same for people, or what they can do
    copy    the file that it is about; ``because``: the one that makes it superfluous
    """

    where: str
    what: str
    do: str
    action: str = ""
    copy: Copy | None = field(default=None, repr=False)
    because: Copy | None = field(default=None, repr=False)
    peer: Peer | None = None


def plan(picture: Picture, force: Sequence[str] = ()) -> list[Finding]:
    """All findings, in the order in which they are to be mended.

    force  runners that a person has declared dead
    """
    quiet = all(peer.state == GONE or peer.name in force for peer in picture.peers)
    by_id: dict[str, list[Copy]] = defaultdict(list)
    for copy in picture.copies:
        by_id[copy.name.id].append(copy)
    found = [*_settings(picture, quiet), *_runners(picture, force)]
    for copies in by_id.values():
        found += _of_task(copies, quiet)
    return [*found, *_gates(picture, quiet), *_requests(picture, quiet), *_leftovers(picture), *_told(picture)]


# -- the list itself ---------------------------------------------------------------------


def _settings(picture: Picture, quiet: bool) -> Iterator[Finding]:
    for folder in picture.missing:
        yield Finding(f"{folder}/", "the folder is missing", "make it", MAKE_FOLDER)
    if picture.settings_state == "missing":
        yield Finding(layout.SETTINGS, "the file is missing; runners use 15 s, 8 beats, durability normal",
                      "write one with the defaults, signed with the key in RUNFORREST_KEY_FILE if that is set",
                      COMPLETE)
    elif picture.settings_state == "damaged":
        yield _if_quiet(quiet, Finding(layout.SETTINGS, "the file is damaged, so no runner can start",
                                       f"set it aside in {layout.DUP}/, and write one with the defaults, signed with "
                                       f"the key in RUNFORREST_KEY_FILE if that is set", NEW_SETTINGS))


def _runners(picture: Picture, force: Sequence[str]) -> Iterator[Finding]:
    wait = picture.settings.beat * picture.settings.lease
    for peer in picture.peers:
        where = f"{layout.DOING}/{peer.name}"
        holds = f"it holds {peer.tasks} task{'s' * (peer.tasks != 1)}"
        if peer.state == GONE:
            yield Finding(where, f"its runner is dead; {holds}", "take them back, and remove its traces", TAKE_BACK,
                          peer=peer)
        elif peer.state == ALIVE:
            continue
        elif peer.name in force:
            yield Finding(where, f"its runner is declared dead by you; {holds}", "take them back at once", FORCE,
                          peer=peer)
        else:
            why = "it has no heartbeat" if peer.state == NOBODY else \
                f"its runner is on host {peer.host or '?'} or in another container, and can't be seen from here"
            yield Finding(where, f"{why}; {holds}", f"watch it for {wait:g} s, and take back what it holds if nothing "
                          f"moves; nothing is done if it is at work", WATCH, peer=peer)


# -- tasks -------------------------------------------------------------------------------


def _of_task(copies: list[Copy], quiet: bool) -> Iterator[Finding]:
    """What is wrong with one task, by all files that bear its id; what runners hold is theirs."""
    whole = [c for c in copies if c.shape != TORN]
    for copy in copies:
        if copy.state == layout.DOING:
            continue
        if copy.shape == TORN:
            yield from _torn(copy, whole)
        elif copy.state == layout.DONE and copy.name.tries and copy.shape == WHOLE and \
                (not copy.outcome or copy.damaged):
            better = _elsewhere(copy, whole)
            what = f"the result of its attempt {copy.name.attempt} is {'damaged' if copy.outcome else 'missing'}"
            yield _aside(copy, better, f"{what}; {better.path} has it") if better else _if_quiet(
                quiet, Finding(copy.path, what, "put it back into todo/, to run again", REQUEUE, copy))
    if len(whole) > 1:
        yield from _several(whole, quiet)


def _torn(copy: Copy, whole: list[Copy]) -> Iterator[Finding]:
    if whole:
        yield _aside(copy, whole[0], copy.why)
    elif copy.state != layout.FAIL:
        yield Finding(copy.path, copy.why, "move it to fail/, as unloadable: it can't be run", FAIL, copy)
    elif not copy.attempts:
        yield Finding(copy.path, copy.why, "nothing: it is in fail/ already; schedule the task again")


def _elsewhere(copy: Copy, whole: list[Copy]) -> Copy | None:
    """The same try with its result."""
    return next((c for c in whole if c.name == copy.name and c is not copy and c.outcome and not c.damaged), None)


def _several(copies: list[Copy], quiet: bool) -> Iterator[Finding]:
    """A task that is in two states.  Two ended tries, or a copy that runs again, are nothing to talk of."""
    links = [c for c in copies if c.links > 1 and sum(d.inode == c.inode for d in copies) > 1]
    if links:
        keep = max(links, key=_progress)
        for copy in links:
            if copy is not keep and copy.inode == keep.inode:
                yield _if_quiet(quiet, _aside(copy, keep, f"it is the same file as {keep.path}, under a second name"))
        return
    for copy in copies:
        if copy.state != layout.TODO:
            continue
        ended = [c for c in copies if c.state in (layout.DONE, layout.FAIL)]
        newer = next((c for c in ended if c.name.attempt in c.attempts and _is_earlier_state(copy, c)), None)
        if newer:
            yield _aside(copy, newer, f"an older state of {newer.path}, which has the result of the same attempt")
        elif ended:
            yield Finding(copy.path, f"the task is also in {ended[0].path}",
                          "nothing: it runs again, as after a `cp` by hand; if that is not meant, move one away")
    yield from _two_endings(copies)


def _is_earlier_state(copy: Copy, ended: Copy) -> bool:
    """Whether it stopped before the end of the very attempt that has ended there: a `cp` would have brought the end."""
    return copy.name.attempt == ended.name.attempt and not copy.outcome


def _two_endings(copies: list[Copy]) -> Iterator[Finding]:
    """One attempt ends in one way: of done/ and fail/, its record says which is right."""
    for copy in copies:
        other = next((c for c in copies if c is not copy and c.name == copy.name and c.outcome == copy.outcome), None)
        right = layout.DONE if copy.outcome == outcomes.RETURNED else layout.FAIL
        if other and copy.outcome and {copy.state, other.state} == {layout.DONE, layout.FAIL} and copy.state != right:
            yield _aside(copy, other, f"attempt {copy.name.attempt} {copy.outcome}, and {other.path} says so")


def _progress(copy: Copy) -> int:
    """Which of several names of one file is kept: where its attempt, if it has ended, belongs; else where it waits."""
    if copy.outcome:
        return 3 if copy.state == (layout.DONE if copy.outcome == outcomes.RETURNED else layout.FAIL) else 0
    return {layout.TODO: 2, layout.DOING: 1}.get(copy.state, 0)


def _aside(copy: Copy, because: Copy, what: str) -> Finding:
    return Finding(copy.path, f"{what}; {because.path} is complete" if copy.shape == TORN else what,
                   f"set it aside in {layout.DUP}/", ASIDE, copy, because)


def _if_quiet(quiet: bool, finding: Finding) -> Finding:
    if quiet:
        return finding
    return Finding(finding.where, finding.what, f"nothing while runners may be at work; then: {finding.do}")


# -- the rest ----------------------------------------------------------------------------


def _gates(picture: Picture, quiet: bool) -> Iterator[Finding]:
    for gate, number, missing in picture.hopeless:
        where = f"{layout.WAITING}/{gate}"
        tasks, them = (f"{number} tasks wait", "them") if number > 1 else ("1 task waits", "it")
        yield _if_quiet(quiet, Finding(
            where, f"{tasks} for {missing}, which is nowhere in the list",
            f"move {them} to fail/, as dependency_failed (to run {them} all the same: "
            f"`mv {where}/*.pkl {layout.TODO}/`)",
            END))


def _requests(picture: Picture, quiet: bool) -> Iterator[Finding]:
    """What is asked of somebody who can't do it any more.  A pause of all runners holds for those to come."""
    runners = {peer.name for peer in picture.peers}
    waiting = {copy.name.id for copy in picture.copies if copy.state in (layout.WAITING, layout.TODO, layout.DOING)}
    ended = {copy.name.id: copy for copy in picture.copies}
    for what, about in ((each.what, each.about) for each in picture.requests if each.age > SEEN_SECONDS):
        where = requests.path(what, about)
        if what in (requests.PAUSE, requests.STOP, requests.STOP_NOW) and about and about not in runners:
            yield Finding(where, "asked of a runner that is gone", "remove it", FORGET)
        elif what == requests.CANCEL and about in ended and about not in waiting:
            copy = ended[about]
            yield Finding(where, f"the task has ended: {copy.path}", "remove it", FORGET, because=copy)
        elif what == requests.CANCEL and about and about not in waiting:
            yield _if_quiet(quiet, Finding(where, "asked for a task that is nowhere in the list", "remove it", FORGET))


def _leftovers(picture: Picture) -> Iterator[Finding]:
    runners = {peer.name for peer in picture.peers}
    for left in picture.leftovers:
        file = left.path.rpartition("/")[2]
        output_of = file.rpartition(".slot")[0] if file.endswith(".log") else ""
        if left.whole:
            yield from _never_published(left, file)
        elif output_of in runners or left.age < DAY:
            continue
        else:
            what = f"output of a runner that is gone, {output_of}" if output_of else "half-written, and left so"
            yield Finding(left.path, f"{what}, {left.age / DAY:.0f} days old", "remove it", REMOVE)


def _never_published(left: Leftover, file: str) -> Iterator[Finding]:
    if left.age > 60.0:
        id = file.rpartition(".")[0]
        yield Finding(left.path, "a task that was written and never scheduled: its program died or failed",
                      f"nothing: if it is wanted, `mv {left.path} {layout.TODO}/{id}.pkl`; else remove it")


def _told(picture: Picture) -> Iterator[Finding]:
    """What only a person can judge."""
    for path, what in picture.foreign:
        yield Finding(path, what, "nothing: it is left alone")
    for path in picture.sides:
        yield Finding(path, "belongs to a task that is nowhere in the list",
                      "nothing: it may be a result; remove it if the task was removed")
    for folder, mode in picture.open_to_others:
        yield Finding(folder, f"others may write to it (mode {mode:o}), and tasks are code",
                      f"nothing: `chmod go-w {folder}`, unless it is meant")
    if picture.set_aside:
        files = "1 file was" if picture.set_aside == 1 else f"{picture.set_aside} files were"
        yield Finding(layout.DUP, f"{files} set aside, by runners or by us", "nothing: look, and remove what it has")
    for name in picture.scratch:
        yield Finding(name, "left by a `runforrest doctor` that was killed, or is at work",
                      "nothing: remove it if none is at work")
