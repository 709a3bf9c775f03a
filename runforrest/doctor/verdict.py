"""From what was measured to a verdict, its reasons, and the settings to use.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from runforrest.doctor.measured import APPENDED, BEAT, NEW, REMOVED, Measured, Race, Side
from runforrest.folder.identity import LOCAL_TYPES
from runforrest.folder.settings import Settings

GOOD, ADJUST, UNTRIED, UNUSABLE = "good", "good with these settings", "too little room to try", "not usable"
BAD, WARNING, NOTE = "bad", "warning", "note"

MOST_BEATS = 1000                  # of a lease; rather than more of them, they are made longer
SHARED_BEAT = 15.0                 # what lists in shared folders have
LOCAL_BEAT = 2.0
NFS_CACHE = 60.0                   # seconds that an NFS client may keep a listing, unless its mount says otherwise
CLOCKS_APART = 60.0
LITTLE_ROOM, FEW_FILES = 1 << 30, 10_000
NEEDED = "some 20 MiB and 3000 files"      # for what `probe.Effort` tries
MEMORY_TYPES = ("tmpfs", "ramfs")

WHAT = {NEW: "a new file in a listing", REMOVED: "a removed file gone from a listing",
        APPENDED: "what was appended to a file", BEAT: "a heartbeat"}
_STEPS_NEEDED = ("making a folder", "rename race", "stale names", "reading")


@dataclass(frozen=True)
class Remark:
    """Something to know.  ``level``: bad, a promise is broken; warning; note."""

    level: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """``settings``: what runforrest.json should say; ``lease_seconds``: what these come to.

    longest_delay  seconds that the lease is made for: measured, or documented for this kind of mount
    rates          tasks per second that the folder allows one slot, by durability; and scheduling
    """

    level: str
    remarks: tuple[Remark, ...]
    beat: float
    lease: int
    durability: str
    longest_delay: float
    rates: dict[str, float]

    @property
    def lease_seconds(self) -> float:
        return self.beat * self.lease

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "lease_seconds": self.lease_seconds}


def judge(found: Measured, current: Settings | None = None) -> Verdict:
    """The verdict.  ``current``: the settings of the list that is in this folder."""
    delay = max(found.longest_delay, documented_delay(found.here), documented_delay(found.there))
    base = current or default_settings(found.here)
    wanted = fitting(base, delay, is_shared(found))
    remarks = [*_promises(found), *_failures(found), *_delays(found), *_mounts(found), *_room(found), *_rights(found),
               *_rest(found)]
    if wanted != base:
        remarks.append(Remark(WARNING, _too_short(base, wanted, delay, current is not None)))
    level = (UNUSABLE if any(r.level == BAD for r in remarks) else UNTRIED if found.no_room
             else GOOD if wanted == base else ADJUST)
    remarks.sort(key=lambda r: (BAD, WARNING, NOTE).index(r.level))
    return Verdict(level, tuple(remarks), wanted.beat, wanted.lease, wanted.durability, delay, rates(found))


# -- settings ----------------------------------------------------------------------------


def default_settings(here: Side | None) -> Settings:
    """What a list that is made here gets by itself."""
    return Settings(beat=LOCAL_BEAT if here and here.filesystem in LOCAL_TYPES else SHARED_BEAT)


def is_shared(found: Measured) -> bool:
    """Whether more than one machine, or more than one mount, is in it."""
    return any(side.filesystem not in LOCAL_TYPES for side in _sides(found)) or is_elsewhere(found)


def is_elsewhere(found: Measured) -> bool:
    """Whether the second hand was on another machine."""
    return found.here is not None and found.there is not None \
        and found.here.facts.get("boot") != found.there.facts.get("boot")


def documented_delay(side: Side | None) -> float:
    """The longest that this kind of mount may keep an old listing, in seconds; a measurement may miss it."""
    if side is None or not side.filesystem.startswith("nfs") or "noac" in side.options:
        return 0.0
    found = dict(option.partition("=")[::2] for option in side.options)
    try:
        return float(found.get("acdirmax") or found.get("actimeo") or NFS_CACHE)
    except ValueError:
        return NFS_CACHE


def needed_lease(delay: float, beat: float) -> float:
    """Seconds: a beat may be seen late by the delay, half as much again for luck, and one beat may be missed."""
    return 1.5 * delay + 2 * beat


def fitting(base: Settings, delay: float, shared: bool) -> Settings:
    """These settings, changed as far as they must be."""
    beat = max(base.beat, SHARED_BEAT) if shared and base.beat * base.lease < needed_lease(delay, base.beat) \
        else base.beat
    beat = max(beat, 1.5 * delay / (max(base.lease, MOST_BEATS) - 2))
    return replace(base, beat=beat, lease=max(base.lease, math.ceil(needed_lease(delay, beat) / beat)))


def _too_short(base: Settings, wanted: Settings, delay: float, is_list: bool) -> str:
    whose = "this list" if is_list else "a new list"
    return (f"the lease of {whose}, {base.lease} beats of {base.beat:g} s, is too short where a change may take "
            f"{delay:.3g} s to be seen: it takes {wanted.lease} beats of {wanted.beat:g} s")


def rates(found: Measured) -> dict[str, float]:
    """Tasks per second that the folder's operations allow, one after the other."""
    median = {what: speed.median for what, speed in found.speed.items()}
    if not {"create", "rename", "append", "fsync"} <= set(median):
        return {}
    run = 2 * median["rename"] + median["append"]
    costs = {"schedule": median["create"] + median["rename"], "none": run, "normal": run + median["fsync"]}
    if "fsync folder" in median:
        costs["full"] = costs["normal"] + median["fsync folder"]
    return {what: 1 / cost for what, cost in costs.items() if cost > 0}


# -- remarks -----------------------------------------------------------------------------


def _promises(found: Measured) -> Iterator[Remark]:
    for what, race in (("renames to names of their own", found.rename), ("renames of a name that had gone",
                                                                         found.stale)):
        if race:
            yield from _race(what, race)
    if found.rename and found.rename.tried and not found.rename.met:
        yield Remark(NOTE, "the two never tried the same file at the very same moment, so the race proves little: this "
                           "machine is busy, or the operations are too fast to meet")
    seen = found.reading or {}
    if seen.get("torn"):
        yield Remark(BAD, f"{seen['torn']} of {sum(seen.values())} files were read with a hole or half, although they "
                          f"had been complete before they got their names")
    if seen.get("late"):
        yield Remark(WARNING, f"{seen['late']} of {sum(seen.values())} files were read without what had been appended "
                              f"before they were renamed: results may be seen late on another host")
    if found.create and found.create.both:
        yield Remark(NOTE, f"{found.create.both} of {found.create.tried} exclusive creates were won by both; the "
                           f"protocol uses them for names with a random part only")
    if found.link and found.link.both:
        yield Remark(WARNING, f"{found.link.both} of {found.link.tried} symbolic links were made by both: this does "
                              f"for task lists, and not for keys (runforrest.once), which two would get; keep "
                              f"those in a server, or elsewhere")
    elif found.link and not found.link.once:
        yield Remark(NOTE, f"symbolic links can't be made here ({', '.join(found.link.errors)}): this does for task "
                           f"lists, and not for keys (runforrest.once)")
    if found.locked is False:
        yield Remark(NOTE, "locks do not keep the other out; they are only used for tidying up and for history.jsonl")


def _race(what: str, race: Race) -> Iterator[Remark]:
    of = f"of {race.tried} {what}"
    if race.both:
        yield Remark(BAD, f"{race.both} {of} were won by both: a task would run twice and be published twice")
    if race.false:
        yield Remark(BAD, f"{race.false} {of} were reported as done and were not")
    if race.lost:
        yield Remark(BAD, f"{race.lost} {of} lost the file")
    if race.nobody:
        yield Remark(WARNING, f"{race.nobody} {of} were won by nobody, and the file stayed where it was")
    if race.late:
        yield Remark(NOTE, f"{race.late} {of} were reported as failed and had been done; the protocol looks for that")


def _failures(found: Measured) -> Iterator[Remark]:
    if found.hung:
        yield Remark(BAD, f"{found.hung}: an operation did not come back; the file server hangs, or is very slow")
    for step, text in found.failures.items():
        yield Remark(BAD if step in _STEPS_NEEDED else WARNING, f"{step}: {text}")


def _delays(found: Measured) -> Iterator[Remark]:
    for delay in found.delays:
        if delay.unseen:
            yield Remark(WARNING, f"{WHAT[delay.kind]} was not seen within {delay.waited:.3g} s at {delay.to}; "
                                  f"--thorough waits longer, and the lease may have to be longer")
    if found.here and found.there and found.here.place == found.there.place and is_shared(found):
        yield Remark(NOTE, "only one mount was tried: what other hosts see, and when, takes --peer or --ssh")
    apart = abs(found.there.clock_offset - found.here.clock_offset) if found.here and found.there else 0.0
    if apart > CLOCKS_APART:
        yield Remark(WARNING, f"the clocks of the two hosts are {apart:.0f} s apart; the protocol compares none, but "
                              f"times in records and logs will confuse people")
    if abs(found.created.get("mtime_offset", 0.0)) > CLOCKS_APART:
        yield Remark(WARNING, f"the file server's clock is {found.created['mtime_offset']:+.0f} s from this host's; "
                              f"the protocol does not mind")


def _mounts(found: Measured) -> Iterator[Remark]:
    here, there = found.here, found.there
    for side, other in ((here, there), (there, here)):
        if side and other and is_elsewhere(found) and side.filesystem in LOCAL_TYPES:
            yield Remark(NOTE, f"{side.place} is a disk of host {side.facts.get('host')} itself, and {other.place} is "
                               f"reached over the network: lists that are made on the former begin with a lease that "
                               f"is meant for one host")
    for side in _sides(found):
        if "soft" in side.options:
            yield Remark(WARNING, f"{side.place} is an NFS mount with the option soft: a slow server becomes an I/O "
                                  f"error in the middle of a write; mount it with hard")
        if side.facts.get("read_only"):
            yield Remark(BAD, f"{side.place} is mounted read-only")
        if side.filesystem in MEMORY_TYPES:
            yield Remark(NOTE, f"{side.place} is in memory ({side.filesystem}): nothing there survives a power cut")


def _room(found: Measured) -> Iterator[Remark]:
    facts = found.here.facts if found.here else {}
    files = facts.get("files_free")
    if found.no_room:
        free = f"{facts.get('bytes_free', 0) / 2 ** 20:.1f} MiB{'' if files is None else f' and {files} more files'}"
        yield Remark(WARNING, f"{found.no_room}; {free} were free at the beginning, and it takes {NEEDED}: what this "
                              f"filesystem keeps can't be told")
        return
    if facts.get("bytes_free", LITTLE_ROOM) < LITTLE_ROOM:
        yield Remark(WARNING, f"only {facts['bytes_free'] / 2 ** 20:.0f} MiB are free")
    if files is not None and files < FEW_FILES:
        yield Remark(WARNING, f"only {files} more files fit; each task is one")


def _rights(found: Measured) -> Iterator[Remark]:
    here, there = found.here, found.there
    if here is None:
        return
    user = here.facts.get("uid")
    owner = found.created.get("uid", user)
    if owner != user:
        yield Remark(WARNING, f"files that user {user} makes belong to user {owner} (root squash?): runners refuse a "
                              f"folder of somebody else without --trust")
    if there and there.facts.get("uid") != user:
        yield Remark(WARNING, f"you are user {user} here and user {there.facts.get('uid')} at {there.place}: runners "
                              f"refuse a folder of somebody else without --trust")
    for number, (path, uid, _, mode) in enumerate(here.facts.get("folders", [])):
        if number == 0 and mode & 0o022:
            yield Remark(NOTE, f"others may write to {path} (mode {mode:o}): fine for making a list in it, but as a "
                               f"list it would be refused without --trust")
        if number and mode & 0o022 and not mode & 0o1000:
            yield Remark(WARNING, f"others may write to {path} (mode {mode:o}, not sticky), and so replace what is "
                                  f"in it: `chmod go-w {path}`")
        if number == 0 and uid not in (user, 0):
            yield Remark(NOTE, f"{path} belongs to user {uid}")


def _rest(found: Measured) -> Iterator[Remark]:
    for side in _sides(found):
        if not (side.facts.get("boot") and side.facts.get("start_times")):
            yield Remark(NOTE, f"{side.place}: this system does not tell boot id and start times of processes; a dead "
                               f"runner may only be known when its lease is over")


def _sides(found: Measured) -> list[Side]:
    """The places, each once."""
    return list({side.place: side for side in (found.there, found.here) if side}.values())[::-1]
