"""Measuring a filesystem with two hands: two processes on one mount, on two mounts, or on two hosts.

Everything happens in one folder that is made for it, and is removed at the end, however that comes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from runforrest.doctor.hands import PATIENCE, Gone, HandProcess, Place, Refused, Silent
from runforrest.doctor.measured import KINDS, Delay, Measured, Race, Side, Speed, Try, create_race, rename_race
from runforrest.errors import InvalidArgument
from runforrest.folder.attempts import new_tag

SCRATCH = ".runforrest-doctor"     #: followed by a tag
SAME_FOLDER_SECONDS = 30.0         # until the second hand must have seen what the first has made
ONE_CLOCK = 0.001                  # seconds: two programs of one machine have the same monotonic clock
BATCHES = 20
NO_ROOM = ("ENOSPC", "EDQUOT")
LEAD = 0.05                        # seconds between asking for a race and its first try, besides the way there


@dataclass(frozen=True)
class Effort:
    """How much to try.

    seconds  for everything together, about; ``wait``: the longest wait for a change to be seen
    """

    seconds: float = 60.0
    wait: float = 35.0
    races: int = 200
    rounds: int = 5


THOROUGH = Effort(600.0, 130.0, 2000, 20)


def measure(here: Place, there: Place | None = None, effort: Effort | None = None,
            say: Callable[[str], None] = lambda what: None) -> Measured:
    """Measure everything.

    there  where the second hand works, which must be the same folder; None: where the first one does
    say    is told what begins

    Raises InvalidArgument if the second hand can't be started, or is not in the same folder.
    """
    begun, found = time.monotonic(), Measured(here.directory)
    with ExitStack() as stack:
        first = _start(stack, here)
        second = _start(stack, there or here)       # closed first: what it has open would stay as `.nfs…`
        session = _Session(first, second, found, effort or Effort(), begun, say)
        try:
            session.run()
        except Silent:
            found.hung = session.doing
            first.hung = second.hung = True
        except Gone as error:
            found.failures[session.doing] = f"the process that tried it has ended: {error}"
    found.seconds = time.monotonic() - begun
    return found


def _start(stack: ExitStack, place: Place) -> HandProcess:
    try:
        hand = HandProcess(place)
        stack.callback(hand.close)
        hand.call("clocks")
        return hand
    except Gone as error:
        raise InvalidArgument(f"{place} can't be reached: {error}") from None
    except Silent:
        raise InvalidArgument(f"{place} can't be reached: no answer within {PATIENCE:g} s") from None


class _Session:
    """One examination; ``doing`` is the step that it is at."""

    def __init__(self, first: HandProcess, second: HandProcess, found: Measured, effort: Effort, begun: float,
                 say: Callable[[str], None]) -> None:
        self.first, self.second, self.found, self.effort, self.say = first, second, found, effort, say
        self.deadline = begun + effort.seconds
        self.doing = "looking at the folder"
        self.offsets = 0.0, 0.0            # of the hands' monotonic clocks to ours
        self.uncertain = 0.0

    def run(self) -> None:
        self._facts()
        if not self._make():
            return
        for what, step in (("locks", self._lock), ("speed", self._speed), ("rename race", self._rename_race),
                           ("stale names", self._stale), ("exclusive create", self._create_race),
                           ("symbolic links", self._link_race), ("reading", self._reading),
                           ("visibility", self._visibility)):
            self.doing = what
            self.say(what)
            try:
                step()
            except Refused as error:
                if not self._failed(error):
                    return

    def _failed(self, error: Refused) -> bool:
        """Take note of a step that could not be done; False if others can't be, either, for lack of room."""
        if error.code in NO_ROOM:
            self.found.no_room = f"{self.doing}: {error}"
        else:
            self.found.failures[self.doing] = str(error)
        return not self.found.no_room

    # -- before anything is tried --------------------------------------------------------

    def _facts(self) -> None:
        sides, offsets = [], []
        for hand in (self.first, self.second):
            try:
                facts = hand.call("facts", directory=hand.place.directory)
            except Refused as error:
                raise InvalidArgument(f"{hand.place}: {error}") from None
            monotonic, today, half = hand.clocks()
            sides.append(Side(str(hand.place), facts, today, 2 * half))
            offsets.append(monotonic)
            self.uncertain = max(self.uncertain, half)
        self.found.here, self.found.there = sides
        self.offsets = offsets[0], offsets[1]
        if sides[0].facts["boot"] == sides[1].facts["boot"] != "" and max(map(abs, offsets)) < ONE_CLOCK:
            self.offsets, self.uncertain = (0.0, 0.0), 0.0

    def _make(self) -> bool:
        name = f"{SCRATCH}.{new_tag(8)}"
        self.doing = "making a folder"
        try:
            self.found.created = self.first.call("make", directory=self.first.place.directory, name=name)
        except Refused as error:
            self._failed(error)
            return False
        try:
            same = self.second.call("find", PATIENCE + SAME_FOLDER_SECONDS, directory=self.second.place.directory,
                                    name=name, wait=SAME_FOLDER_SECONDS)
        except Refused as error:
            raise InvalidArgument(f"{self.second.place}: {error}") from None
        if not same:
            raise InvalidArgument(f"{self.second.place} is not the same folder as {self.first.place}: what was made "
                                  f"here did not appear there within {SAME_FOLDER_SECONDS:g} s")
        return True

    # -- the steps -----------------------------------------------------------------------

    def _lock(self) -> None:
        self.found.locked = bool(self.first.call("lock")) and not self.second.call("lock")

    def _speed(self) -> None:
        each = self.effort.seconds / 20
        times = self.first.call("speed", PATIENCE + 8 * each, seconds=each)
        times["syncfs"] = [self.first.call("syncfs")]
        self.found.speed = {what: Speed(statistics.median(t), max(t), len(t)) for what, t in times.items() if t}

    def _rename_race(self) -> None:
        """File by file; and if the two hardly ever met, as on a busy machine, also as fast as each can."""
        self.found.rename = race = Race()
        end = time.monotonic() + self.effort.seconds / 20
        for batch in range(BATCHES):
            names = [f"r{batch}.{n}" for n in range(self.effort.races)]
            self._ready(names)
            race.add(self._judge(names, self._together("rename", names, paced=not batch)))
            if race.met >= self.effort.races // 10 or time.monotonic() > end:
                break

    def _stale(self) -> None:
        """The second hand knows a name that the first one has just moved away, and tries it all the same."""
        names = [f"s{n}" for n in range(self.effort.races // 5)]
        self._ready(names)
        now = [(name, 0.0) for name in names]
        tries = self.first.call("rename", tries=now, to=".a"), self.second.call("rename", tries=now, to=".b")
        self.found.stale = self._judge(names, tries)

    def _create_race(self) -> None:
        self.first.call("look", folders=["won"])
        self.second.call("look", folders=["won"])
        tries = self._together("create", [f"c{n}" for n in range(self.effort.races // 2)])
        self.found.create = create_race(*tries)

    def _link_race(self) -> None:
        tries = self._together("symlink", [f"l{n}" for n in range(self.effort.races // 2)])
        self.found.link = create_race(*tries)

    def _ready(self, names: list[str]) -> None:
        self.first.call("fill", folder="race", names=names)
        for hand in (self.first, self.second):
            hand.call("look", folders=["race", "won"])

    def _together(self, do: str, names: list[str], paced: bool = True) -> tuple[list[Try], list[Try]]:
        """Both hands try each name at the same moment, the second one now a little earlier, now a little later.

        paced  at moments set apart; else one after the other, both beginning at the same moment
        """
        usual = self.found.speed.get("rename")
        median = usual.median if usual else 0.001
        gap = min(0.05, max(0.004, 4 * median)) if paced else 0.0
        swing = max(median, 2 * self.uncertain) if paced else 0.0
        start = time.monotonic() + LEAD + 4 * self.uncertain
        hands = (self.first, self.second)
        for number, (hand, offset) in enumerate(zip(hands, self.offsets, strict=True)):
            shift = [number * swing * ((n % 11) - 5) / 5 for n in range(len(names))]
            tries = [(name, start + offset + n * gap + shift[n]) for n, name in enumerate(names)]
            hand.ask(do, tries=tries, to=(".a", ".b")[number])
        answers = [hand.answer(PATIENCE + gap * len(names)) for hand in hands]
        first, second = ([(begun - offset, ended - offset, error) for begun, ended, error in answer]
                         for answer, offset in zip(answers, self.offsets, strict=True))
        return first, second

    def _judge(self, names: list[str], tries: tuple[list[Try], list[Try]]) -> Race:
        held = (self.first.call("held", folder="won", names=names, to=".a"),
                self.second.call("held", folder="won", names=names, to=".b"))
        return rename_race(tries, held, self.first.call("held", folder="race", names=names, to=""))

    def _reading(self) -> None:
        count, seconds, seen = 60, 10.0, dict.fromkeys(("whole", "torn", "late", "gone"), 0)
        for start, writer, reader in ((0, self.first, self.second), (count, self.second, self.first)):
            reader.ask("read", start=start, count=count, seconds=seconds)
            writer.ask("publish", start=start, count=count, gap=0.003)
            try:
                writer.answer()
            finally:                       # else it would be taken for the answer to what is asked next
                found = reader.answer(PATIENCE + seconds)
            for kind, number in found.items():
                seen[kind] += number
        self.found.reading = seen

    def _visibility(self) -> None:
        """Both hands change something, and both watch for what the other has changed; as often as there is time."""
        hands = {"a": self.first, "b": self.second}
        for who, hand in hands.items():
            hand.call("prepare", who=who, rounds=self.effort.rounds)
        places = [str(side.place) for side in (self.found.here, self.found.there) if side]
        self.found.delays = [Delay(kind, to) for to in places for kind in KINDS]
        for number in range(self.effort.rounds):
            begun = time.monotonic()
            self._round(hands, number, max(5.0, min(self.effort.wait, self.deadline - begun)))
            if 2 * time.monotonic() - begun > self.deadline:        # another one would take too long
                break

    def _round(self, hands: dict[str, HandProcess], number: int, wait: float) -> None:
        others = {"a": "b", "b": "a"}
        for who, hand in hands.items():
            hand.call("prime", who=others[who], number=number)
        changed = {who: hand.call("change", who=who, number=number) for who, hand in hands.items()}
        for who, hand in hands.items():
            hand.ask("watch", who=others[who], number=number, seconds=wait)
        for index, (who, hand) in enumerate(hands.items()):
            seen, offset = hand.answer(PATIENCE + wait), self.offsets[index]
            other_offset = self.offsets[1 - index]
            for place, kind in enumerate(KINDS):
                delay = self.found.delays[index * len(KINDS) + place]
                if seen[kind] is None:
                    delay.unseen, delay.waited = delay.unseen + 1, wait
                else:
                    took = (seen[kind] - offset) - (changed[others[who]][kind] - other_offset)
                    delay.seconds.append(max(0.0, took))
