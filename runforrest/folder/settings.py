"""``runforrest.json``: what all runners of one task list agree on, written once; and who may write there."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone

from runforrest.errors import FormatVersionError, InvalidArgument, NotATaskList, UntrustedFolder
from runforrest.folder import identity, layout
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps

FORMAT = 1
DURABILITIES = ("none", "calls", "normal", "full")


@dataclass(frozen=True)
class Settings:
    """What is fixed when a list is made.

    format      version of the folder's format
    beat        seconds between two heartbeats of a runner
    lease       beats of the observer without a change, after which a runner elsewhere is lost
    durability  what survives a power cut: none, calls, normal or full
    """

    format: int = FORMAT
    beat: float = 15.0
    lease: int = 8
    durability: str = "normal"
    created: str = field(default_factory=lambda: now_text())

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


def create(fs: FileOps, durability: str = "normal") -> Settings:
    """Make the folders and the settings of a new list, or complete those that are there."""
    made = not os.path.isdir(fs.root)
    os.makedirs(fs.root, mode=0o700, exist_ok=True)
    for name in (layout.TODO, layout.DONE, layout.FAIL):
        _ensure(fs, name)
    ensure_internal(fs)
    settings = _read(fs)
    if settings is None:
        local = identity.is_local(fs.root)
        settings = Settings(durability=check_durability(durability), beat=2.0 if local else 15.0)
        tmp = f"{layout.TMP}/{layout.SETTINGS}.{new_tag()}"    # pids repeat between containers
        fs.create(tmp, [json.dumps(asdict(settings), indent=1).encode() + b"\n"], force=settings.force_calls)
        fs.rename(tmp, layout.SETTINGS)
    if settings.force_calls:           # btrfs keeps one new folder and loses another, else
        fs.force_folder("")
        if made:
            FileOps(os.path.dirname(fs.root)).force_folder("")
    return settings


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
    if not os.path.isdir(fs.path(name)):
        try:
            fs.mkdir(name)
        except FileExistsError:
            pass


def open_list(fs: FileOps, trust: bool | None = None) -> Settings:
    """The settings of an existing list.

    trust   None: only look, nothing will be unpickled.  False: other users must not be able to
            write here.  True: whoever writes here may run code as this user.

    Raises NotATaskList, FormatVersionError, UntrustedFolder.
    """
    if not os.path.isdir(fs.root):
        raise NotATaskList(f"{fs.root} is not a folder; make a task list with TaskList({fs.root!r}) and schedule "
                           f"tasks in it first", directory=fs.root)
    settings = _read(fs)
    if settings is None:
        if not os.path.isdir(fs.path(layout.TODO)):
            raise NotATaskList(f"{fs.root} is not a task list: it has neither {layout.SETTINGS} nor a "
                               f"{layout.TODO}/ folder", directory=fs.root)
        settings = Settings()          # made by RunForrest, or by hand
    if trust is False:
        check_trust(fs)
    return settings


def _read(fs: FileOps) -> Settings | None:
    try:
        text = fs.read(layout.SETTINGS)
    except FileNotFoundError:
        return None
    try:
        found = json.loads(text)
        version = found["format"]
        known = {f.name for f in fields(Settings)}
        if isinstance(version, int) and version > FORMAT:
            raise FormatVersionError(
                f"{fs.root} has format {version}, this runforrest knows formats up to {FORMAT}; "
                f"upgrade runforrest on this machine", directory=fs.root, version=version)
        settings = Settings(**{k: v for k, v in found.items() if k in known})
        check_durability(settings.durability)
        if not (settings.beat > 0 and settings.lease >= 1):
            raise ValueError("beat and lease must be positive")
    except (ValueError, TypeError, KeyError) as error:
        raise NotATaskList(f"{fs.path(layout.SETTINGS)} is damaged ({error}); remove it, and the next TaskList or "
                           f"`runforrest run` uses the defaults", directory=fs.root) from None
    return settings


def check_trust(fs: FileOps) -> None:
    """Refuse a folder into which others could put a pickle, which is code."""
    for name in ("", layout.TODO, layout.DOING, layout.DONE, layout.FAIL, layout.INTERNAL):
        path = fs.path(name) if name else fs.root
        try:
            info = os.stat(path)
        except FileNotFoundError:
            continue
        writable = [who for who, bit in (("its group", stat.S_IWGRP), ("everybody", stat.S_IWOTH))
                    if info.st_mode & bit]
        if info.st_uid not in (os.geteuid(), 0):
            writable.insert(0, f"its owner (user {info.st_uid})")
        if writable:
            raise UntrustedFolder(
                f"{path} can be written by {' and '.join(writable)}, and tasks are code: `chmod go-w {path}`, or "
                f"say --trust (trust=True) if you trust them", directory=fs.root)
