"""``runforrest.json`` in a folder of keys: what all processes that use it agree on, written once; and who may write."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields

from runforrest.errors import FormatVersionError, InvalidArgument, UntrustedFolder
from runforrest.folder import identity
from runforrest.folder.attempts import new_tag
from runforrest.folder.layout import SETTINGS
from runforrest.folder.settings import LEAST_LEASE, LONGEST, MOST_SECONDS, now_text, refuse_link
from runforrest.folder.trust import Trust
from runforrest.once.errors import KeyStoreError
from runforrest.once.files import NO_LINKS, KeyFiles
from runforrest.once.making import MARK, make_by_one
from runforrest.once.names import shard_name

FORMAT, KIND = 1, "keys"
KEYS, VALUES, HEARTS, TMP = "keys", "values", "hearts", "tmp"
FOLDERS = (KEYS, VALUES, HEARTS, TMP)
DURABILITIES = ("none", "normal")
SHARDS, MOST_SHARDS = 256, 4096


@dataclass(frozen=True)
class KeySettings:
    """What is fixed when a folder of keys is made.

    kind        that this is no task list
    shards      among how many folders the keys are spread
    beat        seconds between two beats of a process that holds keys by its heartbeat
    lease       beats of the observer without a change, after which such a process elsewhere has lost its keys
    durability  normal: what is done survives a power cut; none: it may be done again then
    group       the folder is for the members of its group
    fold        the filesystem takes A and a for the same
    """

    format: int = FORMAT
    kind: str = KIND
    shards: int = field(default_factory=lambda: SHARDS)
    beat: float = 15.0
    lease: int = 8
    durability: str = "normal"
    group: bool = False
    fold: bool = False
    created: str = field(default_factory=now_text)

    def __post_init__(self) -> None:
        """Raises InvalidArgument if one of them can't be meant."""
        for good, what in ((self.durability in DURABILITIES, "durability"),
                           (isinstance(self.beat, (int, float)) and 0 < self.beat < MOST_SECONDS, "beat"),
                           (isinstance(self.lease, int) and LEAST_LEASE <= self.lease < MOST_SECONDS, "lease"),
                           (isinstance(self.shards, int) and 0 < self.shards <= MOST_SHARDS, "shards"),
                           (isinstance(self.group, bool), "group"), (isinstance(self.fold, bool), "fold")):
            if not good:
                raise InvalidArgument(f"{what} can't be {getattr(self, what)!r:.40}", argument=what)


def open_or_create(fs: KeyFiles, trust: bool = False, group: bool = False, durability: str = "normal") -> KeySettings:
    """The settings of a folder of keys, which is made if it is not there; ``fs.trust`` is then what holds for it.

    trust       use a folder that other users may write to
    group       trust the members of its group; a new one is made for them
    durability  of a new one
    Raises KeyStoreError, FormatVersionError, UntrustedFolder, OSError.
    """
    settings = _read(fs)
    if settings is None:
        settings = _create(fs, group, durability)
    mine = os.stat(fs.path(SETTINGS)).st_uid in (os.geteuid(), 0)
    gid = os.stat(fs.root).st_gid if group or (settings.group and mine) else None
    fs.trust = Trust(trust, gid, settings.group)
    check_trust(fs)
    return settings


def check_trust(fs: KeyFiles) -> None:
    """Refuse a folder into which somebody who isn't trusted may write: keys would be taken from us, values be code."""
    for name in ("", SETTINGS, *FOLDERS):
        info = os.lstat(fs.path(name)) if name else os.stat(fs.root)
        if name in FOLDERS:
            refuse_link(fs, name, info)
        who = fs.trust.objection(info)
        if who:
            path = fs.path(name) if name else fs.root
            raise UntrustedFolder(f"{path} can be written by {who}: {fs.trust.remedy(info, path)}", directory=fs.root)


def _read(fs: KeyFiles) -> KeySettings | None:
    try:
        fd = fs.open_read(SETTINGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        text = os.read(fd, LONGEST)
    finally:
        os.close(fd)
    try:
        found = json.loads(text)
        if found.get("kind") != KIND:
            raise KeyStoreError(f"{fs.root} is a task list, not a folder of keys: choose another folder "
                                f"(RUNFORREST_KEYS, or store=)", store=fs.root)
        if found["format"] > FORMAT:
            raise FormatVersionError(f"{fs.root} has format {found['format']}, this runforrest knows formats up to "
                                     f"{FORMAT}; upgrade runforrest on this machine", directory=fs.root,
                                     version=found["format"])
        known = {f.name for f in fields(KeySettings)}
        return KeySettings(**{k: v for k, v in found.items() if k in known})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise KeyStoreError(f"{fs.path(SETTINGS)} is damaged ({error}); all processes that use these keys need the "
                            f"same: write it anew with the same \"shards\" and \"fold\"", store=fs.root) from None


def _create(fs: KeyFiles, group: bool, durability: str) -> KeySettings:
    """Make the folder; of thousands of processes that do so at once, the settings of one hold."""
    parent = os.path.dirname(fs.root)
    try:
        os.makedirs(parent, mode=0o700, exist_ok=True)
        make_by_one(fs, lambda: _read(fs) is not None, lambda: _make(fs, group, durability))
    except (FileExistsError, NotADirectoryError):
        raise KeyStoreError(f"{fs.root} is a file: keys need a folder (RUNFORREST_KEYS, or store=)",
                            store=fs.root) from None
    found = _read(fs)
    if found is None:
        raise OSError(f"{fs.path(SETTINGS)} was written, and is not there")
    return found


def _make(fs: KeyFiles, group: bool, durability: str) -> None:
    """All folders, and then the settings, which say that it is whole.  Also what somebody has begun who was killed."""
    os.makedirs(fs.root, mode=0o700, exist_ok=True)
    if any(name not in (SETTINGS, *FOLDERS) and not name.startswith(MARK) for name in os.listdir(fs.root)):
        raise KeyStoreError(f"{fs.root} is not empty, and not a folder of keys: choose another one (RUNFORREST_KEYS, "
                            f"or store=)", store=fs.root)
    fs.trust = Trust(shared=group)
    if group and os.stat(fs.root).st_uid == os.geteuid():
        fs.share_folder("")
    for name in FOLDERS:
        fs.ensure_folder(name)
    _check_links(fs)
    # on a disk of this machine dead processes are known at once: the lease is for those that hang, and so as long
    beat, lease = (2.0, 60) if identity.is_local(fs.root) else (15.0, 8)
    made = KeySettings(beat=beat, lease=lease, durability=durability, group=group,
                       fold=os.path.exists(fs.path(HEARTS.upper())))
    for number in range(made.shards):
        for folder in (KEYS, VALUES):
            fs.ensure_folder(f"{folder}/{shard_name(number, made.shards)}")
    tmp = f"{TMP}/{SETTINGS}.{new_tag(8)}"
    fs.create(tmp, [json.dumps(asdict(made), indent=1).encode() + b"\n"], force=durability != "none",
              mode=0o640 if group else 0o600)
    if durability != "none":
        for folder in (KEYS, VALUES):
            fs.force_folder(folder)
    if fs.exists(SETTINGS):
        fs.unlink(tmp)
    else:
        fs.rename(tmp, SETTINGS)        # by two at once: theirs are the same
    if durability != "none":
        fs.force_folder("")
        KeyFiles(os.path.dirname(fs.root)).force_folder("")


def _check_links(fs: KeyFiles) -> None:
    """Raises KeyStoreError if the filesystem has no symbolic links."""
    name = f"{TMP}/{new_tag(8)}.link"
    try:
        fs.symlink("text", name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        raise KeyStoreError(f"keys can't be kept in {fs.root}, as its filesystem has no symbolic links: choose another "
                            f"one, or a server (RUNFORREST_KEYS, or store=)", store=fs.root) from None
    fs.unlink(name)
