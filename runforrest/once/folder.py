"""Keys in a folder that all processes share.  Nothing needs to be started.

    keys/<shard>/<key>                       the anchor, made once: a symbolic link with a text
    keys/<shard>/<key>~<lineage>~<token>~…   its state file: see `runforrest.once.names`
    values/<shard>/<key>~<lineage>~<token>~<tag>    the value of a key that is done
    hearts/<owner>@<number>                  see `runforrest.once.hearts`

The first claim of a key makes the state file, under a name that nobody else uses, and then the anchor, a symbolic link,
which succeeds once, and whose text says which lineage of state files counts.  One that lost this race counts for
nothing.  From then on every change is one rename of the state file, to a name of its maker's own: who comes too late
finds nothing to rename.  So no lock, lease or clock decides who has a key, only who may try to take it over.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Sequence

from runforrest.folder import identity
from runforrest.folder.attempts import new_tag
from runforrest.folder.transitions import LOST_RACE
from runforrest.once import names
from runforrest.once.errors import AlreadyDone, ClaimLost, KeyStoreError
from runforrest.once.files import KeyFiles
from runforrest.once.folderhearts import FolderHearts
from runforrest.once.hearts import Hearts
from runforrest.once.model import Claim, Condition, Entry
from runforrest.once.names import State
from runforrest.once.settings import KEYS, open_or_create
from runforrest.once.tree import LINEAGE_LENGTH, LOOKS, TAG_LENGTH, KeyTree
from runforrest.once.view import Shard

WORTH = 20.0                       # all is listed anew, after races were lost, when so many times its cost is over
CROWD, MOST_CROWD = 4, 64          # claims for which a lost race is remembered


class FolderStore:
    """The `KeyStore` of a folder, which is made if it is not there.

    trust       use a folder that other users may write to
    group       trust the members of the folder's group; a new one is made for them
    durability  of a new one: normal, or none
    """

    def __init__(self, root: str | os.PathLike[str], trust: bool = False, group: bool = False,
                 durability: str = "normal", fs: KeyFiles | None = None) -> None:
        self.fs = fs or KeyFiles(root)
        self.url, self.given = self.fs.root, (self.fs.root, trust, group)
        self.settings = open_or_create(self.fs, trust, group, durability)
        self.fs.awaited = True          # of a folder that is away nothing is concluded
        self.tree = KeyTree(self.fs, self.settings)
        self.hearts = Hearts(FolderHearts(self.fs, self.settings.beat), self.settings.beat, self.settings.lease,
                             identity.is_local(self.fs.root))
        self._shards: dict[str, Shard] = {}
        # by key, after errors: states of its own that may be there, as a reply may be lost; and the one that it was
        # just taking over, and has touched, so that its lease seems to begin anew
        self._tried: dict[str, list[State]] = {}
        self._touched: dict[str, State] = {}
        self._crowd = 0
        self._lock = threading.RLock()

    # -- claiming ------------------------------------------------------------------------

    def claim(self, key: str, timeout: float | None, owner: str, force: bool = False) -> tuple[Claim | None,
                                                                                                Entry | None]:
        with self._lock:
            shard = self._shard(key, anew=True)
            state = shard.state(self.tree.quoted(key))
            before = self._entry(key, state) if state else None
            claim = self._try(key, shard, timeout, owner, force)
            if claim is None:
                before = self.look(key) or Entry(key, Condition.IN_PROGRESS, 0, "", timeout, "", 0.0, False)
            elif before and before.condition is Condition.IN_PROGRESS and not force:
                before = before._replace(condition=Condition.EXPIRED)       # between the look and the claim
            return claim, before

    def claim_any(self, keys: Sequence[str], timeout: float | None, owner: str) -> tuple[Claim | None, int, bool]:
        for position, key in enumerate(keys):
            with self._lock:
                crowd = self._crowd
                claim = self._try(key, self._shard(key), timeout, owner)
                crowded = self._crowd > crowd
            if claim:
                return claim, position, False
            if crowded:
                return None, position + 1, True
        return None, len(keys), False

    def _try(self, key: str, shard: Shard, timeout: float | None, owner: str, force: bool = False) -> Claim | None:
        quoted = self.tree.quoted(key)
        state = shard.state(quoted)
        mine = self._resumed(key)
        if mine is None and (quoted in shard.done or (state and not force and not self._is_free(key, state))):
            return None
        if mine is None and state:
            mine = self._take(key, state, timeout, owner)
        elif mine is None:
            mine = self._make(key, quoted, timeout, owner)
        if mine is None:
            shard.lost = True
            self._crowd += CROWD
            return None
        self._settled(key)
        self._crowd = min(MOST_CROWD, max(0, self._crowd - 1))
        shard.set(mine)
        if mine.code == names.HEARTBEAT:
            self.hearts.holds(str(mine))
        return Claim(key, mine.token, str(mine), timeout)

    def _resumed(self, key: str) -> State | None:
        """A claim of this process that was made, though the reply was an error, and that still holds."""
        if key not in self._tried:
            return None
        lineage = self.tree.lineage(self.tree.path(key, self.tree.quoted(key)))
        return next((mine for mine in self._tried[key] if mine.lineage == lineage
                     and self.fs.exists(self.tree.path(key, mine))), None)

    def _settled(self, key: str) -> None:
        """It is known what has become of this process's claims of it."""
        self._tried.pop(key, None)
        self._touched.pop(key, None)

    def _make(self, key: str, quoted: str, timeout: float | None, owner: str) -> State | None:
        """The first claim of a key; None if another was quicker."""
        tried = self._tried.get(key, [])
        if self._crowd and not tried and self.fs.exists(self.tree.path(key, quoted)):
            return None
        mine = self._next(State(quoted, new_tag(LINEAGE_LENGTH), 0, "", names.FREE, 0, ""), timeout, owner)
        self._tried[key] = [*tried, mine]
        found = self.tree.begin(key, mine)
        if found == mine.lineage:
            return mine
        touched = self._touched.get(key)
        if any(state.lineage == found for state in tried) or (touched and touched.lineage == found):
            raise OSError(errno.ESTALE, "a key that may be this process's own can't be seen", self.tree.path(key, mine))
        self._settled(key)
        return None

    def _take(self, key: str, state: State, timeout: float | None, owner: str) -> State | None:
        """Claim a key that exists: by a rename, which one of several wins."""
        if self.tree.lineage(self.tree.path(key, state.quoted)) != state.lineage:
            return None
        mine = self._next(state, timeout, owner)
        self._tried.setdefault(key, []).append(mine)
        self._touched[key] = state
        try:
            self.fs.touch(self.tree.path(key, state))   # first: else the new name would be seen with the old time
            self.tree.move(key, state, mine)
        except OSError as error:
            if error.errno not in LOST_RACE:
                raise
            return None
        return mine

    def _next(self, before: State, timeout: float | None, owner: str) -> State:
        """The state after one more claim."""
        code, milliseconds = names.PERMANENT, 0
        if timeout is None:
            code, owner = names.HEARTBEAT, self.hearts.owner()
        elif timeout > 0:
            code, milliseconds = names.LEASED, max(1, round(timeout * 1000))
        return State(before.quoted, before.lineage, before.token + 1, new_tag(TAG_LENGTH), code, milliseconds,
                     names.owner_part(owner))

    def _is_free(self, key: str, state: State) -> bool:
        return (state.code == names.FREE or state == self._touched.get(key) or state in self._tried.get(key, ())
                or (state.code in names.HELD and self._is_over(key, state)))

    def _is_over(self, key: str, state: State) -> bool:
        """Whether a lease is over.  That decides only who may try."""
        if state.code == names.HEARTBEAT:
            return self.hearts.is_dead(state.owner)
        try:
            touched = self.fs.modified(self.tree.path(key, state))
        except FileNotFoundError:       # renamed meanwhile
            return False
        coarse = 0 if touched % 10**9 else 10**9        # times in whole seconds
        return self.tree.now() - touched > state.milliseconds * 10**6 + coarse

    # -- ending a claim ------------------------------------------------------------------

    def confirm(self, claim: Claim, value: bytes | None = None, report: str = "") -> None:
        state = self._claimed(claim)
        done = state._replace(tag=report or new_tag(TAG_LENGTH), milliseconds=0,
                              code=names.DONE if value is None else names.VALUE)
        if not (state.code in names.HELD or (state.code == names.PERMANENT and value is not None)):
            raise refusal(claim, self.look(claim.key))
        if value is not None:
            self.tree.put_value(claim.key, done, value)
        if not self._end(claim, state, done):
            if value is not None:
                self.fs.unlink(self.tree.value_path(claim.key, done))
            raise refusal(claim, self.look(claim.key))
        self.tree.force(claim.key, value is not None)

    def release(self, claim: Claim) -> bool:
        state = self._claimed(claim)
        free = state._replace(code=names.FREE, milliseconds=0)     # the same name, however often it is asked
        return self._end(claim, state, free)

    def _end(self, claim: Claim, state: State, to: State) -> bool:
        """The last change of a claim; False if it is not this claim's any more."""
        try:
            self.tree.move(claim.key, state, to)
        except OSError as error:
            if error.errno not in LOST_RACE or self.tree.find(claim.key) == state:
                raise
            self.hearts.drops(claim.ref)
            return False
        self.hearts.drops(claim.ref)
        with self._lock:
            shard = self._shards.get(self.tree.shard_name(claim.key))
            if shard:
                shard.set(to)
        return True

    def _claimed(self, claim: Claim) -> State:
        state = names.parse(claim.ref)
        if state is None:
            raise KeyStoreError(f"this claim of {claim.key!r} was not made in {self.url}", store=self.url)
        return state

    def forget(self, key: str) -> None:
        for _ in range(LOOKS):          # others may be changing it at the same time
            state = self.tree.find(key)
            if state is None:
                self.tree.unanchor(key)
            if state is None or state.code == names.FREE:
                return
            free = state._replace(token=state.token + 1, tag=new_tag(TAG_LENGTH), code=names.FREE, milliseconds=0)
            try:
                self.tree.move(key, state, free)
            except OSError as error:
                if error.errno not in LOST_RACE:
                    raise
                continue
            if state.code == names.VALUE:
                self.fs.unlink(self.tree.value_path(key, state))
            self.refresh()
            return
        raise KeyStoreError(f"{key!r} could not be made free: others keep claiming it", store=self.url)

    # -- looking -------------------------------------------------------------------------

    def look(self, key: str) -> Entry | None:
        state = self.tree.find(key)
        return self._entry(key, state) if state else None

    def value(self, key: str) -> bytes | None:
        for _ in range(LOOKS):          # it may be made anew at the same time
            state = self.tree.find(key)
            if state is None or state.code != names.VALUE:
                return None
            try:
                return self.tree.value(key, state)
            except FileNotFoundError:
                continue
        raise self.tree.no_value(key)

    def entries_of(self, keys: Sequence[str]) -> Iterator[Entry]:
        by_shard: dict[str, list[str]] = {}
        for key in keys:
            by_shard.setdefault(self.tree.shard_name(key), []).append(key)
        for name, some in by_shard.items():
            shard = self.tree.list(name)
            for key in some:
                state = shard.state(self.tree.quoted(key))
                entry = self._entry(key, state, dated=False) if state else None
                if entry:
                    yield entry

    def entries(self, prefix: str) -> Iterator[Entry]:
        for name in self.fs.entries(KEYS):
            shard = self.tree.list(name)
            for state in shard.states():
                key = self.tree.text(shard, state)
                entry = self._entry(key, state, dated=False) if key and key.startswith(prefix) else None
                if entry:
                    yield entry

    def _entry(self, key: str, state: State, dated: bool = True) -> Entry | None:
        """``dated``: with the time of its claim, which costs a look at the file."""
        if state.code == names.FREE:
            return None
        timeout: float | None = 0.0
        condition = Condition.PERMANENT if state.code == names.PERMANENT else Condition.DONE
        if state.code in names.HELD:
            timeout = None if state.code == names.HEARTBEAT else state.milliseconds / 1000
            condition = Condition.EXPIRED if self._is_over(key, state) else Condition.IN_PROGRESS
        since = 0.0
        if dated:
            try:
                since = self.fs.modified(self.tree.path(key, state)) / 1e9
            except FileNotFoundError:
                pass
        return Entry(key, condition, state.token, str(state), timeout, state.owner, since, state.code == names.VALUE)

    def _shard(self, key: str, anew: bool = False) -> Shard:
        """What is known of the keys beside this one; listed if nothing is, or it has shown to be old."""
        name = self.tree.shard_name(key)
        shard = self._shards.get(name)
        if anew or key in self._tried:
            return self.tree.list(name)
        if shard is None or (shard.lost
                             and time.monotonic() - shard.listed > WORTH * shard.cost * len(self._shards)):
            shard = self._shards[name] = self.tree.list(name)
            shard.compact()
        return shard

    def refresh(self) -> None:
        with self._lock:
            self._shards.clear()
            self._crowd = 0

    def pickles(self) -> str:
        return ""                       # whose file it is is looked at when it is read

    def close(self) -> None:
        """Leave: what this process holds by its heartbeat is free for others."""
        self.hearts.close()


def refusal(claim: Claim, now: Entry | None) -> AlreadyDone | ClaimLost:
    """The error for who reports success and does not have the key; ``now``: what has become of it."""
    if now and now.condition.success and now.token == claim.token:
        at_once = "; it was claimed with timeout 0, which makes it done at once"
        return AlreadyDone(f"Completed more than once: {claim.key!r}, by {now.owner}"
                           f"{at_once if now.condition is Condition.PERMANENT else ''}", key=claim.key, owner=now.owner)
    what = ("it is free again" if now is None else
            f"{now.owner} {'has done it' if now.condition.success else 'has it now'}, with token {now.token}")
    return ClaimLost(f"the claim of {claim.key!r} with token {claim.token} is over, and {what}: nothing was recorded",
                     key=claim.key, token=claim.token, owner=now.owner if now else "",
                     owner_token=now.token if now else 0)
