"""The files of a folder of keys: where they are, which ones count, and how one change of them is made."""

from __future__ import annotations

import errno
import os
import time

from runforrest.folder.attempts import new_tag
from runforrest.once import names
from runforrest.once.errors import KeyStoreError
from runforrest.once.files import NO_WRITING, KeyFiles
from runforrest.once.names import State
from runforrest.once.settings import KEYS, TMP, VALUES, KeySettings
from runforrest.once.view import Shard

LINEAGE_LENGTH, TAG_LENGTH = 8, 6
CLOCK_SECONDS = 5.0                # between two looks at the clock of the filesystem
LOOKS = 3
SEEN_SECONDS = (0.0, 0.01, 0.05, 0.2, 1.0)


class KeyTree:
    """``keys/<shard>/`` and ``values/<shard>/``."""

    def __init__(self, fs: KeyFiles, settings: KeySettings) -> None:
        self.fs, self.settings = fs, settings
        self._clock: tuple[int, float] | None = None

    # -- names ---------------------------------------------------------------------------

    def quoted(self, key: str) -> str:
        return names.quote(key, self.settings.fold)

    def shard_name(self, key: str) -> str:
        return names.shard_of(key, self.settings.shards)

    def path(self, key: str, name: object) -> str:
        """Of a key's anchor, or state file."""
        return f"{KEYS}/{self.shard_name(key)}/{name}"

    def value_path(self, key: str, state: State) -> str:
        return f"{VALUES}/{self.shard_name(key)}/{state.quoted}~{state.lineage}~{state.token}~{state.tag}"

    def text(self, shard: Shard, state: State) -> str:
        """The key of a state; '' if it can't be read."""
        key = names.unquote(state.quoted)
        if key is None:                 # too long for a file name
            key = names.unquote(self._anchor_text(f"{KEYS}/{shard.name}/{state.quoted}").partition("~")[2])
        return key or ""

    # -- what there is -------------------------------------------------------------------

    def list(self, name: str) -> Shard:
        """The keys of one folder."""
        begun = time.monotonic()
        try:
            shard = Shard(name, self.fs.scan(f"{KEYS}/{name}", folders=False))
        except (FileNotFoundError, NotADirectoryError):
            shard = Shard(name)
        for quoted in shard.doubtful:
            self._settle(shard, quoted)
        shard.listed = time.monotonic()
        shard.cost = shard.listed - begun
        return shard

    def _settle(self, shard: Shard, quoted: str) -> None:
        """Several lineages: those that lost the race for the anchor are removed, as they will never count."""
        lineage = self.lineage(f"{KEYS}/{shard.name}/{quoted}")
        for state in shard.doubtful[quoted]:
            if lineage and state.lineage == lineage:
                shard.set(state)
            elif lineage:
                self.fs.unlink(f"{KEYS}/{shard.name}/{state}")

    def find(self, key: str) -> State | None:
        """The state of a key, read anew; None if nobody has ever claimed it, or it can't be seen yet."""
        quoted = self.quoted(key)
        for _ in range(LOOKS):          # a listing may miss what is renamed meanwhile
            state = self.list(self.shard_name(key)).state(quoted)
            lineage = self.lineage(self.path(key, quoted))
            if not lineage:
                return None
            if state and state.lineage == lineage:
                return state
        return None

    def lineage(self, anchor: str) -> str:
        """The lineage that counts for a key; '' if it has no anchor."""
        return self._anchor_text(anchor).partition("~")[0]

    def _anchor_text(self, anchor: str) -> str:
        return self.fs.readlink(anchor) or ""

    def now(self) -> int:
        """The time by the clock of the filesystem, in nanoseconds: what a file gets that is made now, or a little less.

        Where nothing can be made, and so nothing claimed, this host's clock does for looking.
        """
        if self._clock is None or time.monotonic() - self._clock[1] > CLOCK_SECONDS:
            try:
                self._clock = self._touched_now(), time.monotonic()
            except OSError as error:
                if error.errno not in NO_WRITING:
                    raise
                return time.time_ns()
        return self._clock[0] + round((time.monotonic() - self._clock[1]) * 1e9)

    def _touched_now(self) -> int:
        path = f"{TMP}/{new_tag(12)}.clock"
        self.create(path, b"")
        try:
            return self.fs.modified(path)
        finally:
            self.fs.unlink(path)

    # -- changes -------------------------------------------------------------------------

    def begin(self, key: str, state: State) -> str:
        """Make a key with this state; the lineage that counts, another one if it has been made before."""
        path, anchor = self.path(key, state), self.path(key, state.quoted)
        self.create(path, b"")
        whole = names.quote(key, longest=0)
        try:
            self.fs.symlink(f"{state.lineage}~{whole}" if whole != state.quoted else state.lineage, anchor)
        except OSError as error:
            found = self._seen_at_last(anchor) if isinstance(error, FileExistsError) else self.lineage(anchor)
            if not found:                       # the file stays: it may yet count, and else is removed some day
                raise
            if found != state.lineage:
                self.fs.unlink(path)
            return found
        return state.lineage

    def _seen_at_last(self, anchor: str) -> str:
        """The lineage of an anchor that is there, though it may not be seen at once (GlusterFS).  Raises OSError."""
        for pause in SEEN_SECONDS:
            time.sleep(pause)
            found = self.lineage(anchor)
            if found:
                return found
        raise OSError(errno.ESTALE, "there is an anchor that can't be seen", self.fs.path(anchor))

    def unanchor(self, key: str) -> None:
        """Remove the anchor of a key whose state file somebody has removed."""
        anchor = self.path(key, self.quoted(key))
        if self.lineage(anchor):
            self.fs.unlink(anchor)

    def move(self, key: str, state: State, to: State) -> None:
        """One change of state.  Whatever the error says, what counts is whether the destination is there."""
        try:
            self.fs.rename(self.path(key, state), self.path(key, to))
        except OSError:
            if not self.fs.exists(self.path(key, to)):
                raise

    def create(self, path: str, content: bytes, force: bool = False) -> None:
        """Create a file whose name is this call's alone, and its folder if somebody has removed that."""
        try:
            self._create(path, content, force)
        except FileNotFoundError:
            self.fs.ensure_folder(os.path.dirname(path))
            self._create(path, content, force)

    def _create(self, path: str, content: bytes, force: bool) -> None:
        try:
            self.fs.create(path, [content], force)
        except FileExistsError:         # a call of ours whose reply was lost
            self.fs.unlink(path)
            self.fs.create(path, [content], force)

    def put_value(self, key: str, state: State, value: bytes) -> None:
        """Write the value of a key that is about to get this state."""
        path = self.value_path(key, state)
        if not (self.fs.exists(path) and self.fs.exists(self.path(key, state))):    # asked again after an error
            self.create(path, value, force=self.settings.durability != "none")

    def value(self, key: str, state: State) -> bytes:
        """Raises Untrusted, FileNotFoundError."""
        fd = self.fs.open_read(self.value_path(key, state))
        try:
            self.fs.trust.check(fd, self.fs.path(self.value_path(key, state)))
            with open(fd, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(fd)

    def force(self, key: str, value: bool) -> None:
        """Have a change of state, and a value, survive a power cut."""
        if self.settings.durability != "none":
            for folder in (VALUES, KEYS) if value else (KEYS,):
                self.fs.force_folder(f"{folder}/{self.shard_name(key)}")

    def no_value(self, key: str) -> KeyStoreError:
        return KeyStoreError(f"the value of {key!r} is gone from {self.fs.path(VALUES)}: forget() the key, and it is "
                             f"made anew", store=self.fs.root)
