"""A task as its file tells it: the envelope and the attempts, read without running anybody's code.

Loaded in every child.
"""

from __future__ import annotations

import os

from runforrest.errors import Untrusted
from runforrest.folder import frames, layout, signing
from runforrest.folder.attempts import PASSING, side_file
from runforrest.folder.fsio import FileOps
from runforrest.model import outcomes
from runforrest.model.names import SUFFIX, Name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.folder.frames import Frame, Record
    from runforrest.folder.trust import Trust

ENVELOPE, ATTEMPT = "envelope", "attempt"


class StoredTask:
    """What a task's file holds.

    name      the parsed file name
    envelope  the record written when the task was scheduled; {} for a bare pickle
    attempts  the records of its ended attempts, oldest first
    size      bytes of the file; ``end``: where its last intact frame ends
    """

    __slots__ = ("_frames", "attempts", "end", "envelope", "name", "size")

    def __init__(self, name: Name, found: list[Frame], size: int) -> None:
        """``found``: the frames, oldest first."""
        first = found[0] if found and found[0].start == 0 and found[0].record.get("frame") == ENVELOPE else None
        self.name, self.size = name, size
        self._frames = found
        self.envelope: Record = first.record if first else {}
        self.attempts: list[Record] = [f.record for f in found if f.record.get("frame") == ATTEMPT]
        self.end = found[-1].end if found else size

    @classmethod
    def read(cls, fd: int, name: Name) -> StoredTask:
        found = list(frames.backwards(fd))
        found.reverse()
        return cls(name, found, os.fstat(fd).st_size)

    @classmethod
    def open(cls, fs: FileOps, path: str, name: Name, history: bool = True) -> StoredTask:
        """The task in this file, with what attempts wrote elsewhere after a take-over.

        history  False: its `result` is all that is wanted, for which nothing need be listed
        """
        fd = fs.open_read(path)
        try:
            task = cls.read(fd, name)
        finally:
            os.close(fd)
        if not task.has_result() or (history and (name.lost or task.renamed)):
            task.add_side_records(fs, history)
        return task

    def add_side_records(self, fs: FileOps, history: bool = True) -> None:
        """Add what attempts wrote into ``tries/``, since they could not, or must not, append here.

        history  False: only that of the try that the name states
        """
        self.attempts = _merged(self.attempts, side_records(fs, self.name, history))
        if self.renamed:
            first = Name(str(self.envelope["id"]), self.name.tries, self.name.tag, self.name.lost)
            self.attempts = _merged(self.attempts, side_records(fs, Name(first.id) if history else first, history))

    @property
    def renamed(self) -> bool:
        """Whether a person has given the file another name: what was recorded beside it bears the first one."""
        return bool(self.envelope) and self.envelope.get("id", self.name.id) != self.name.id

    def call(self, fd: int) -> bytes:
        """The pickle of the deferred call; raises ValueError if it is damaged.

        A file without an envelope is a pickle that a person put there: it is the call, whole.
        """
        if not self.envelope:
            return frames.read_range(fd, 0, self._frames[0].start if self._frames else self.size)
        call = self._frames[0].payload(fd)
        if call is None:
            raise ValueError("the pickled call in it is damaged (its checksum is wrong)")
        return call

    def check_call(self, trust: Trust, call: bytes) -> None:
        """Refuse a call that nobody with the key has signed, or one under another task's name.  Raises Untrusted."""
        if trust.key is None:
            return
        if not self.envelope or not trust.key.fits(signing.CALL, str(self.envelope.get("id")), self._frames[0].text,
                                                   call):
            raise Untrusted(f"{self.name} was not unpickled, as nobody with the key of this list has signed it: "
                            f"schedule the task again")
        if self.envelope["id"] != self.name.id:
            raise Untrusted(f"{self.name} was not unpickled, as it was signed under another name: rename it to "
                            f"{self.envelope['id']}{SUFFIX}")

    def payload(self, fd: int) -> bytes | None:
        """The pickled value or exception of the try that the name states; None if it is not here, or damaged."""
        frame = self._result_frame()
        return frame.payload(fd) if frame else None

    def ending(self, fd: int, trust: Trust) -> tuple[Record | None, bytes | None]:
        """The record of the try that the name states, and its payload, to be unpickled; (None, None) if not here.

        Raises Untrusted if it should be signed, and is not.
        """
        frame = self._result_frame()
        if frame is None:
            return None, None
        record, payload = frame.record, frame.payload(fd)
        damaged = payload is None and record.get("payload")         # then nothing will be unpickled
        if trust.key is not None and needs_signature(record) and not damaged and not trust.key.fits(
                signing.RESULT, self.name.id, frame.text, payload or b""):
            raise unsigned_result(self.name)
        return record, payload

    def _result_frame(self) -> Frame | None:
        return next((f for f in reversed(self._frames) if f.record.get("frame") == ATTEMPT
                     and f.record.get("attempt") == self.name.attempt), None)

    def without_envelope(self) -> StoredTask:
        """The same, with nothing in it that could decide how, or as what, something is run."""
        bare = StoredTask(self.name, self._frames, self.size)
        bare.envelope = {}
        return bare

    def has_result(self) -> bool:
        """Whether the try that the name states has its record in this file."""
        return any(a.get("attempt") == self.name.attempt for a in self.attempts)

    def result(self) -> Record | None:
        """The record of the try that the name states."""
        return next((a for a in reversed(self.attempts) if a.get("attempt") == self.name.attempt), None)

    def counts(self) -> dict[str, int]:
        """How many attempts ended with which outcome; take-overs as the name counts them."""
        counts: dict[str, int] = {}
        for attempt in self.attempts:
            outcome = str(attempt.get("outcome", ""))
            counts[outcome] = counts.get(outcome, 0) + 1
        if self.name.lost:
            counts["lost"] = max(self.name.lost, counts.get("lost", 0))
        return counts


def side_records(fs: FileOps, name: Name, history: bool = True) -> list[Record]:
    """Records that attempts of this task left in ``tries/``, at most one of each attempt.

    history  False: only of the try that the name states
    """
    if not history or (name.tries == 1 and not name.lost):      # thousands may be looked for like this
        files = [name.side(), f"{name.id}.{name.attempt}.lost"]
    else:
        try:
            files = [n for n in fs.scan(layout.TRIES) if n.startswith(name.id + ".t") and _is_of(n, name.id)]
        except OSError:
            return []
    found: dict[str, Record] = {}
    for file in sorted(files, key=lambda n: n.endswith(".lost")):   # who was given up may have ended all the same
        try:
            fd = fs.open_read(f"{layout.TRIES}/{file}")
        except OSError:
            continue
        try:
            for frame in frames.backwards(fd):
                if frame.record.get("frame") == ATTEMPT:
                    found.setdefault(str(frame.record.get("attempt")), frame.record)
        finally:
            os.close(fd)
    return list(found.values())


def _is_of(file: str, id: str) -> bool:
    """Whether this file in ``tries/`` belongs to the task: `x.test.t1-ab.pkl` is not the task x's."""
    name = Name.parse(os.path.splitext(file)[0] + SUFFIX)
    return name is not None and name.id == id


def unsigned_result(name: Name) -> Untrusted:
    return Untrusted(f"the result in {name} was not unpickled, as nobody with the key of this list has signed it: "
                     f"move the file to {layout.TODO}/ to run the task again")


def needs_signature(record: Record) -> bool:
    """Whether a result with this record is worth forging: it would be unpickled, or taken for a value."""
    return bool(record.get("payload")) or record.get("outcome") == outcomes.RETURNED


def side_ending(fs: FileOps, name: Name) -> tuple[Record | None, bytes | None]:
    """`StoredTask.ending` out of ``tries/``, where it is after a take-over.

    Raises Untrusted, also for a file that others may have put there.
    """
    file = side_file(name)
    try:
        fd = fs.open_read(file)
    except OSError as error:
        if error.errno in PASSING:              # a server that is away: that there is no result would be believed
            raise
        return None, None
    try:
        fs.trust.check(fd, fs.path(file))
        return StoredTask.read(fd, name).ending(fd, fs.trust)
    finally:
        os.close(fd)


def _merged(first: list[Record], second: list[Record]) -> list[Record]:
    known = {a.get("attempt") for a in first}
    both = first + [a for a in second if a.get("attempt") not in known]
    return sorted(both, key=lambda a: (a.get("number") or 0, a.get("ended") or ""))
