"""``runforrest.json``: what all runners of one task list agree on, written once; and who may write there."""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone

from runforrest.errors import FormatVersionError, InvalidArgument, NotATaskList, SigningKeyError, UntrustedFolder
from runforrest.folder import identity, layout
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.folder.signing import VARIABLE, Key
from runforrest.folder.trust import Trust

FORMAT = 1
MOST_SECONDS = 1e6                 # of a beat, and of beats of a lease
LEAST_LEASE = 3                    # beats: one is lost between two clocks, one is for the ending of tasks in time
LONGEST = 1 << 16                  # bytes of runforrest.json that are read
FOLDERS = (*layout.EVERYWHERE, layout.INTERNAL, *layout.INTERNALS, *layout.GATED)
DURABILITIES = ("none", "calls", "normal", "full")
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Settings:
    """What is fixed when a list is made.

    format      version of the folder's format
    beat        seconds between two heartbeats of a runner
    lease       beats of the observer without a change, after which a runner elsewhere is lost
    durability  what survives a power cut: none, calls, normal or full
    group       the list is for the members of the folder's group: they may write to it, and are trusted
    key         the id of the key with which everything in it is signed, or ''
    """

    format: int = FORMAT
    beat: float = 15.0
    lease: int = 8
    durability: str = "normal"
    created: str = field(default_factory=lambda: now_text())
    group: bool = False
    key: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError if one of them can't be meant."""
        for field_, kinds in (("format", (int,)), ("beat", (int, float)), ("lease", (int,)), ("durability", (str,)),
                              ("created", (str,)), ("group", (bool,)), ("key", (str,))):
            value = getattr(self, field_)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ValueError(f"{field_} can't be {value!r:.40}")
        if not 0 < self.beat < MOST_SECONDS:
            raise ValueError(f"beat must be more than 0 and less than {MOST_SECONDS:g} seconds, not {self.beat}")
        if not LEAST_LEASE <= self.lease < MOST_SECONDS:
            raise ValueError(f"lease must be at least {LEAST_LEASE} and less than {MOST_SECONDS:g} beats, "
                             f"not {self.lease}")

    @property
    def force_calls(self) -> bool:
        return self.durability != "none"

    @property
    def force_results(self) -> bool:
        return self.durability in ("normal", "full")

    @property
    def force_folders(self) -> bool:
        return self.durability == "full"


def now_text() -> str:
    """The time as it stands on disk: ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_durability(durability: str) -> str:
    if durability not in DURABILITIES:
        raise InvalidArgument(f"durability must be one of {', '.join(DURABILITIES)}, not {durability!r}",
                              argument="durability")
    return durability


def create(fs: FileOps, durability: str = "normal", trust: bool = False, group: bool = False,
           key: Key | None = None) -> Settings:
    """Make the folders and the settings of a new list, or complete those that are there.

    Arguments as in `open_list`; for a new list ``group`` and ``key`` are what it will have.
    """
    made = not os.path.isdir(fs.root)
    try:
        os.makedirs(fs.root, mode=0o700, exist_ok=True)
    except FileExistsError:
        raise NotATaskList(f"{fs.root} is a file, not a folder", directory=fs.root) from None
    settings, mine = _read(fs)
    if settings is None:
        settings = Settings(durability=check_durability(durability), beat=2.0 if identity.is_local(fs.root) else 15.0,
                            group=group, key=key.id if key else "")
        fs.trust = _trust_of_new(fs, trust, group, key)
        if group and os.stat(fs.root).st_uid == os.geteuid():      # else whoever owns it has shared it
            fs.share_folder("")
        _make_folders(fs)
        _write(fs, settings)
    else:
        _check_key(fs, settings, key)
        _set_trust(fs, settings, mine, trust, group, key)
        try:
            _make_folders(fs)
        except OSError as error:       # what is there can be read; who writes makes them, or is told
            if error.errno not in UNWRITABLE:
                raise
    if settings.force_calls:           # btrfs keeps one new folder and loses another, else
        fs.force_folder("")
        if made:
            FileOps(os.path.dirname(fs.root)).force_folder("")
    return settings


def _make_folders(fs: FileOps) -> None:
    for name in (layout.TODO, layout.DONE, layout.FAIL):
        _ensure(fs, name)
    ensure_internal(fs)


def _write(fs: FileOps, settings: Settings) -> None:
    """Not for the group to write to: this file says whether its members are trusted."""
    tmp = f"{layout.TMP}/{layout.SETTINGS}.{new_tag()}"    # pids repeat between containers
    fs.create(tmp, [json.dumps(asdict(settings), indent=1).encode() + b"\n"], force=settings.force_calls,
              mode=0o640 if settings.group else 0o600)
    fs.rename(tmp, layout.SETTINGS)


def ensure_internal(fs: FileOps) -> None:
    """The folders that come and go with the runners: made again by whoever finds one missing."""
    for last in (False, False, True):
        try:
            for name in (layout.DOING, layout.INTERNAL, *layout.INTERNALS):
                _ensure(fs, name)
            return
        except FileNotFoundError:       # a leaving runner is tidying up at this very moment
            if last:
                raise


def _ensure(fs: FileOps, name: str) -> None:
    """Make a folder that is missing; a link in its place is refused, as it would lead out of the list."""
    try:
        info = os.lstat(fs.path(name))
    except FileNotFoundError:
        try:
            fs.mkdir(name)
        except FileExistsError:
            pass
        return
    refuse_link(fs, name, info)
    if fs.trust.shared and info.st_uid == os.geteuid() and stat.S_IMODE(info.st_mode) != fs.trust.folder_mode:
        fs.share_folder(name)


def refuse_link(fs: FileOps, name: str, info: os.stat_result) -> None:
    if not stat.S_ISDIR(info.st_mode):
        what = "a link" if stat.S_ISLNK(info.st_mode) else "a file"
        raise UntrustedFolder(f"{fs.path(name)} is not a folder but {what}: remove it, and a folder is made in its "
                              f"place", directory=fs.root)


def open_list(fs: FileOps, trust: bool | None = None, group: bool = False, key: Key | None = None) -> Settings:
    """The settings of an existing list; ``fs.trust`` is then what holds for its files.

    trust   None: only look, nothing will be unpickled, and what follows does not matter.  False: users that
            aren't trusted must not be able to write here.  True: whoever writes here may run code as this user.
    group   trust the members of the folder's group, also if another user has made the list
    key     with what the list is signed, or None if it is not

    Raises NotATaskList, FormatVersionError, UntrustedFolder, SigningKeyError, OSError.
    """
    if not os.path.isdir(fs.root):
        raise NotATaskList(f"{fs.root} is not a folder; make a task list with TaskList({fs.root!r}) and schedule "
                           f"tasks in it first", directory=fs.root)
    settings, mine = _read(fs)
    if settings is None:
        if not os.path.isdir(fs.path(layout.TODO)):
            raise NotATaskList(f"{fs.root} is not a task list: it has neither {layout.SETTINGS} nor a "
                               f"{layout.TODO}/ folder", directory=fs.root)
        settings = Settings()          # made by RunForrest, or by hand
    _check_links(fs)
    if trust is None:
        fs.trust.shared = settings.group
        if settings.group and mine:     # else what its members may write to could not be appended to
            fs.trust.group = os.stat(fs.root).st_gid
    else:
        _set_trust(fs, settings, mine, trust, group, key)
        check_trust(fs)
        _check_key(fs, settings, key)
    return settings


def _read(fs: FileOps) -> tuple[Settings | None, bool]:
    """(the settings, whether nobody but this user and root can have written them)."""
    try:
        fd = fs.open_read(layout.SETTINGS)
    except FileNotFoundError:
        return None, False
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):       # trouble says nothing of what is there
            raise
        raise NotATaskList(f"{fs.path(layout.SETTINGS)} can't be opened: {error.strerror}", directory=fs.root) from None
    try:
        info = os.fstat(fd)
        text = b"" if stat.S_ISDIR(info.st_mode) else os.read(fd, LONGEST)
    finally:
        os.close(fd)
    return _parse(fs, text), not Trust().objection(info)


def _parse(fs: FileOps, text: bytes) -> Settings:
    try:
        found = json.loads(text)
        version = found["format"]
        if found.get("kind", "tasks") != "tasks":
            raise NotATaskList(f"{fs.root} holds {found['kind']}, not tasks: choose another folder", directory=fs.root,
                               kind=str(found["kind"]))
        known = {f.name for f in fields(Settings)}
        if isinstance(version, int) and version > FORMAT:
            raise FormatVersionError(
                f"{fs.root} has format {version}, this runforrest knows formats up to {FORMAT}; "
                f"upgrade runforrest on this machine", directory=fs.root, version=version)
        settings = Settings(**{k: v for k, v in found.items() if k in known})
        check_durability(settings.durability)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotATaskList(f"{fs.path(layout.SETTINGS)} is damaged ({error}); remove it, and the next TaskList or "
                           f"`runforrest run` uses the defaults", directory=fs.root) from None
    return settings


# -- trust -------------------------------------------------------------------------------


def _set_trust(fs: FileOps, settings: Settings, mine: bool, trust: bool, group: bool, key: Key | None) -> None:
    """That a list is its group's is believed if this user says so, or has made the list."""
    gid = os.stat(fs.root).st_gid if group or (settings.group and mine) else None
    fs.trust = Trust(trust, gid, settings.group, key)


def _check_key(fs: FileOps, settings: Settings, key: Key | None) -> None:
    what, facts = f"{fs.root} is signed with the key {settings.key}", {"directory": fs.root}
    if settings.key and key is None:
        raise SigningKeyError(f"{what}: name the file that has it in {VARIABLE}, or with --key-file (key_file=)",
                              key_file="", **facts)
    if key is not None and not settings.key:
        raise SigningKeyError(f"{fs.root} is not signed, and {key.file} was given as its key: unset {VARIABLE} to "
                              f"use an unsigned list, or make a new one", key_file=key.file, **facts)
    if key is not None and key.id != settings.key:
        raise SigningKeyError(f"{what}, and {key.file} has the key {key.id}: use the right file", key_file=key.file,
                              **facts)


def _trust_of_new(fs: FileOps, trust: bool, group: bool, key: Key | None) -> Trust:
    return Trust(trust, os.stat(fs.root).st_gid if group else None, group, key)


def check_empty(fs: FileOps, trust: bool, group: bool) -> None:
    """Refuse to make a list in an empty folder into which others could write."""
    fs.trust = _trust_of_new(fs, trust, group, None)
    check_trust(fs)


def check_trust(fs: FileOps) -> None:
    """Refuse a folder into which somebody who isn't trusted could put a pickle, which is code."""
    for name in ("", layout.SETTINGS, *FOLDERS):
        try:
            info = os.lstat(fs.path(name)) if name else os.stat(fs.root)
        except FileNotFoundError:
            continue
        who = fs.trust.objection(info)
        if who:
            path = fs.path(name) if name else fs.root
            raise UntrustedFolder(f"{path} can be written by {who}, and tasks are code: "
                                  f"{fs.trust.remedy(info, path)}", directory=fs.root)


def _check_links(fs: FileOps) -> None:
    """Nothing below the list's own folder may lead out of it."""
    for name in FOLDERS:
        try:
            refuse_link(fs, name, os.lstat(fs.path(name)))
        except FileNotFoundError:
            continue
