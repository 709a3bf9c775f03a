"""What was measured, as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: (begun, ended, name of the error or ''), of one try
Try = tuple[float, float, str]

NEW, REMOVED, APPENDED, BEAT = "new", "gone", "append", "beat"
KINDS = (NEW, REMOVED, APPENDED, BEAT)


@dataclass
class Side:
    """One of the two ends.

    facts         what the hand told of its host and folder
    clock_offset  seconds that its time of day is ahead of this host's; known to within ``round_trip`` / 2
    """

    place: str
    facts: dict[str, Any]
    clock_offset: float = 0.0
    round_trip: float = 0.0

    @property
    def filesystem(self) -> str:
        return str(self.facts.get("mount", {}).get("type", ""))

    @property
    def options(self) -> list[str]:
        return str(self.facts.get("mount", {}).get("options", "")).split(",")


@dataclass
class Race:
    """Two hands tried to have the same thing, again and again.

    tried    how often; ``met``: how often the two tries overlapped in time
    once     one of them has it, as it should be
    both     both have it; ``nobody``: neither has, and it is still where it was
    lost     neither has, and it is gone
    false    one was told that it has it, and has not
    late     one was told that it failed, and has it all the same
    errors   what losers were told
    """

    tried: int = 0
    met: int = 0
    once: int = 0
    both: int = 0
    nobody: int = 0
    lost: int = 0
    false: int = 0
    late: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    def add(self, other: Race) -> None:
        for what, number in vars(other).items():
            if what != "errors":
                setattr(self, what, getattr(self, what) + number)
        self.errors = dict(Counter(self.errors) + Counter(other.errors))


@dataclass
class Delay:
    """How long it took until a change was seen.  ``seconds``: each time; ``unseen``: not within ``waited`` seconds."""

    kind: str
    to: str
    seconds: list[float] = field(default_factory=list)
    unseen: int = 0
    waited: float = 0.0


@dataclass
class Speed:
    """Seconds of an operation."""

    median: float
    worst: float
    count: int


@dataclass
class Measured:
    """All of it.  What could not be measured is None, and `failures` says why.

    reading   files that were read while they were published: whole, torn, late (the end was missing), gone
    locked    whether a lock of one hand keeps out the other
    created   owner of a new file, and the seconds that its time is ahead of this host's
    no_room   what could not be tried for lack of room, after which nothing else was
    hung      the operation that did not come back
    """

    directory: str
    here: Side | None = None
    there: Side | None = None
    rename: Race | None = None
    stale: Race | None = None
    create: Race | None = None
    link: Race | None = None
    reading: dict[str, int] | None = None
    delays: list[Delay] = field(default_factory=list)
    speed: dict[str, Speed] = field(default_factory=dict)
    locked: bool | None = None
    created: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    no_room: str = ""
    hung: str = ""
    seconds: float = 0.0

    @property
    def longest_delay(self) -> float:
        """Seconds until everything was seen, or those that were waited for it in vain."""
        return max((max([*d.seconds, d.waited if d.unseen else 0.0]) for d in self.delays), default=0.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rename_race(tries: tuple[Sequence[Try], Sequence[Try]], held: tuple[Sequence[str], Sequence[str]],
                left: Sequence[str]) -> Race:
    """The outcome of a race for names of their own.

    tries  of the two, on one clock
    held   what each found under its own name afterwards; ``left``: what was found at the old name
    """
    race, errors = Race(len(left)), Counter[str]()
    for first, second, own, other, rest in zip(*tries, *held, left, strict=True):
        race.met += _met(first, second)
        have = 0
        for (_, _, error), found in ((first, own), (second, other)):
            errors[error] += bool(error)
            have += not error or bool(found)       # what the protocol goes by
            race.false += not error and found != "it"
            race.late += bool(error) and bool(found)
        race.both += have == 2
        race.once += have == 1
        race.nobody += have == 0 and bool(rest)
        race.lost += own != "it" and other != "it" and not rest
    race.errors = dict(+errors)
    return race


def create_race(first: Sequence[Try], second: Sequence[Try]) -> Race:
    """The outcome of a race for the same new names."""
    errors = Counter(error for *_, error in (*first, *second) if error)
    wins = [(not a[2]) + (not b[2]) for a, b in zip(first, second, strict=True)]
    return Race(len(wins), sum(map(_met, first, second)), wins.count(1), wins.count(2), wins.count(0),
                errors=dict(errors))


def _met(first: Try, second: Try) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]
