"""The name of a task's file: ``<id>[.t<tries>-<tag>][.lost<n>].pkl``.

The name carries the protocol's decisions: each claim raises ``tries`` and draws a fresh tag,
each take-over raises ``lost``.  The id sorts in the order of scheduling, the more urgent first,
and ends in what the user called the task.  Loaded in every child: imports nothing.
"""

from __future__ import annotations

SUFFIX = ".pkl"
TAGS = "0123456789abcdefghijklmnopqrstuvwxyz"
TAG_LENGTH = 4
DEMANDING_LENGTH = 5             #: of the tag in the id of a task that does not need just one core
MAX_PRIORITY = 499               #: priorities go from -499 (last) to 499 (first)
MAX_LABEL = 120                  #: characters of the user's name that the file name keeps
MAX_ID = 220                     #: bytes of an id: with all suffixes it stays below the 255 of filesystems
SYSTEM_PREFIXES = (".", )        #: `.nfs…`, `.fuse_hidden…` and editors' files are not ours


class Name:
    """A parsed file name; immutable by convention, equal when the text is equal."""

    __slots__ = ("id", "lost", "tag", "tries")

    def __init__(self, id: str, tries: int = 0, tag: str = "", lost: int = 0) -> None:
        self.id, self.tries, self.tag, self.lost = id, tries, tag, lost

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """The name that this file name states, or None if it can't be a task's."""
        if not text.endswith(SUFFIX) or text.startswith(SYSTEM_PREFIXES) or len(text) > 255 or not _is_plain(text):
            return None
        stem = text[:-len(SUFFIX)]
        tries, tag, lost = 0, "", 0
        head, _, last = stem.rpartition(".")
        if head and last.startswith("lost") and _is_count(last[4:]):
            stem, lost = head, int(last[4:])
            head, _, last = stem.rpartition(".")
        if head and last.startswith("t"):
            count, dash, word = last[1:].partition("-")
            if dash and _is_count(count) and _is_tag(word):
                stem, tries, tag = head, int(count), word
        return cls(stem, tries, tag, lost) if stem and _bytes(stem) <= MAX_ID else None

    @property
    def attempt(self) -> str:
        """``t<tries>-<tag>``: the attempt that the name stands for, '' before the first claim."""
        return f"t{self.tries}-{self.tag}" if self.tries else ""

    @property
    def label(self) -> str:
        """What the user called the task: the part of the id after its sequence."""
        parts = self.id.split("-", 3)
        return parts[3] if len(parts) == 4 and is_sequence(parts[1]) else self.id

    @property
    def demanding(self) -> bool:
        """Whether its envelope says what it needs (cores, GPUs, tokens …): else it needs one core."""
        parts = self.id.split("-", 3)
        return len(parts) == 4 and len(parts[2]) == DEMANDING_LENGTH and is_sequence(parts[1])

    def __str__(self) -> str:
        attempt = f".t{self.tries}-{self.tag}" if self.tries else ""
        return f"{self.id}{attempt}{f'.lost{self.lost}' if self.lost else ''}{SUFFIX}"

    def __repr__(self) -> str:
        return f"<Name {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def side(self) -> str:
        """The file in ``tries/`` for this attempt's own result."""
        return f"{self.id}.{self.attempt}{SUFFIX}"

    def claimed(self, tag: str) -> Name:
        """The name after one more claim."""
        return Name(self.id, self.tries + 1, tag, self.lost)

    def taken(self) -> Name:
        """The name after it was taken from a dead runner."""
        return Name(self.id, self.tries, self.tag, self.lost + 1)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _is_plain(text: str) -> bool:
    """Whether it is one part of a path, without characters that control a terminal."""
    return "/" not in text and (text.isprintable() or not any(c < " " or "\x7f" <= c < "\xa0" for c in text))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and not text.startswith("0") and len(text) < 10


def _is_tag(text: str) -> bool:
    return bool(text) and all(c in TAGS for c in text)


def is_sequence(text: str) -> bool:
    """Whether this is the time part of an id that `make_id` made."""
    return len(text) == 21 and text[8:9] == "T" and (text[:8] + text[9:]).isdigit()


def make_id(priority: int, sequence: str, tag: str, label: str) -> str:
    """An id: ``<urgency>-<sequence>-<tag>-<label>``.

    ``sequence`` is UTC as ``YYYYMMDDTHHMMSSffffff``, raised by the caller so that it never repeats;
    ``tag`` is random, for two hosts that schedule in the same microsecond.
    """
    return f"{MAX_PRIORITY - priority + 1:03d}-{sequence}-{tag}-{clean_label(label)}"


def clean_label(label: str) -> str:
    """The user's name as it may stand in a file name on any filesystem: never empty, never a path."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.=+,@%()[]") else "_" for c in label[:MAX_LABEL])
    # ".t1-ab" or ".lost2" at the end would read as the suffix of a claim
    return kept.replace(".t", "_t").replace(".lost", "_lost").strip(".") or "task"
