"""`doctor`: is this filesystem good enough, and what is wrong with this list?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from runforrest.cli import exits, texts
from runforrest.cli.common import directory_argument, json_option, put_json
from runforrest.errors import InvalidArgument

if TYPE_CHECKING:
    from runforrest.doctor.measured import Delay, Measured, Race, Side
    from runforrest.doctor.repair import Finding
    from runforrest.doctor.verdict import Verdict
    from runforrest.folder.settings import Settings

_COLUMN = 24
_SHOWN = 100                       # findings that are printed of each sort
_AT_ONCE = 0.05                    # seconds: less is the time that it takes to look


@click.command(short_help="Try a filesystem out, or mend a list.")
@directory_argument
@click.option("--peer", metavar="DIR2", help="The same folder on another mount; with --ssh: its path there.")
@click.option("--ssh", metavar="HOST", help="Try it together with this host, which needs nothing but Python 3.6; may "
              "hold options for ssh, as '-p 2222 HOST'.")
@click.option("--thorough", is_flag=True, help="Ten times as many tries, and waits up to ten minutes rather than one.")
@click.option("--repair", is_flag=True, help="Find what an interrupted hand has left in the list DIR, say what could "
              "be done, and do it if confirmed.")
@click.option("--force-dead", "dead", metavar="RUNNER", multiple=True,
              help="With --repair: take back the tasks of this runner without waiting for its lease.")
@click.option("--yes", is_flag=True, help="With --repair: don't ask.")
@json_option
def doctor(directory: str, peer: str | None, ssh: str | None, thorough: bool, repair: bool, dead: tuple[str, ...],
           yes: bool, as_json: bool) -> None:
    """Measure whether the filesystem of DIR keeps what the protocol needs, and which settings to use.

    Two processes try DIR out together, in a folder of their own that is removed at the end: on one mount, or on two
    (--peer), or on two hosts (--ssh).  This takes seconds, or up to a minute where changes are seen late.

    With --repair nothing is measured: the list in DIR is read, and what is wrong with it is told, each with
    what would be done.  Nothing that could be a task or a result is ever deleted.

    \b
    Exit code: 0 usable, or nothing (left) to mend; 1 not usable, or something is left to mend; 2 wrong use.
    """
    if not repair and (dead or yes):
        raise InvalidArgument("--force-dead and --yes go with --repair")
    if repair and (peer or ssh or thorough):
        raise InvalidArgument("--repair measures nothing: leave out --peer, --ssh and --thorough")
    _check_there(directory)
    good = _repair(directory, dead, yes, as_json) if repair else _measure(directory, peer, ssh, thorough, as_json)
    raise click.exceptions.Exit(exits.OK if good else exits.FAILED)


def _check_there(directory: str) -> None:
    if os.path.isdir(directory):
        return
    above = os.path.abspath(directory)
    if os.path.lexists(above):
        raise InvalidArgument(f"{directory} is not a folder")
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    raise InvalidArgument(f"{directory} does not exist; make it first, or look at the folder that it would be in: "
                          f"`runforrest doctor {above}`")


# -- measuring ---------------------------------------------------------------------------


def _measure(directory: str, peer: str | None, ssh: str | None, thorough: bool, as_json: bool) -> bool:
    from runforrest.doctor import probe, verdict
    from runforrest.doctor.hands import Place
    here = Place(os.path.abspath(directory))
    there = None
    if ssh:
        there = Place(peer or here.directory, ssh)
    elif peer:
        there = Place(os.path.abspath(peer))
    with _Said() as said:
        found = probe.measure(here, there, probe.THOROUGH if thorough else None, said.now)
    current = _current_settings(directory)
    judged = verdict.judge(found, current)
    if as_json:
        put_json({"measured": found.to_json(), "verdict": judged.to_json()})
    else:
        for line in [*_table(found, judged), *_conclusion(directory, judged, current)]:
            click.echo(texts.printable(line))
    return judged.level not in (verdict.UNUSABLE, verdict.UNTRIED)


def _current_settings(directory: str) -> Settings | None:
    """Those of the list in this folder, if there is one."""
    from runforrest.errors import FolderError
    from runforrest.folder.fsio import FileOps
    from runforrest.folder.settings import open_list
    try:
        return open_list(FileOps(directory))
    except (FolderError, OSError):
        return None


class _Said:
    """What is being done, on one line of a terminal that is gone in the end."""

    def __enter__(self) -> _Said:
        return self

    def now(self, what: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\033[Kmeasuring: {what} …", nl=False, err=True)

    def __exit__(self, *error: object) -> None:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)


def _table(found: Measured, judged: Verdict) -> Iterator[str]:
    places = [side for side in (found.here, found.there) if side]
    here_only = len({side.place for side in places}) == 1
    for number, side in enumerate(places[:1] if here_only else places):
        yield _row("folder" if number == 0 else "second folder", _side(side))
    if found.rename:
        yield _row("rename, own names", _race(found.rename))
    if found.stale:
        yield _row("rename, name was gone", _race(found.stale))
    if found.create:
        yield _row("exclusive create", _race(found.create))
    if found.link:
        yield _row("symbolic links", _race(found.link))
    if found.reading:
        seen = found.reading
        yield _row("read while published", f"{seen['whole']} whole, {seen['torn']} torn, {seen['late']} without "
                                           f"their end, {seen['gone']} had moved on")
    for to in dict.fromkeys(delay.to for delay in found.delays):
        yield _row("changes seen" if here_only else f"seen at the {'second' if to != places[0].place else 'first'}",
                   _delays([delay for delay in found.delays if delay.to == to]))
    yield from _speed(found, judged)
    if found.locked is not None:
        yield _row("locks", "keep the other out" if found.locked else "do not keep the other out")
    yield from _surroundings(found)
    yield _row("took", texts.duration(found.seconds))


def _row(what: str, text: str) -> str:
    return f"{what:{_COLUMN}}{text}"


def _side(side: Side) -> str:
    mount = side.facts.get("mount", {})
    kind = f"{mount['type']} of {mount['source']} on {mount['point']}" if mount else "unknown filesystem"
    return f"{side.place} ({kind}; host {side.facts.get('host')}, Python {side.facts.get('python')})"


def _race(race: Race) -> str:
    parts = [f"{race.once} of {race.tried} won once"]
    parts += [f"{number} {what}" for number, what in (
        (race.both, "BY BOTH"), (race.lost, "LOST"), (race.false, "FALSE"), (race.nobody, "by nobody"),
        (race.late, "though reported as failed")) if number]
    if race.met:
        parts.append(f"{race.met} at the same moment")
    if race.errors:
        parts.append("losers got " + ", ".join(race.errors))
    return ", ".join(parts)


def _delays(delays: list[Delay]) -> str:
    """When the changes of the other hand were seen in one place."""
    parts = []
    for kind, what in (("new", "new file"), ("gone", "removal"), ("append", "appended"), ("beat", "heartbeat")):
        times = sorted(second for delay in delays if delay.kind == kind for second in delay.seconds)
        unseen = [delay for delay in delays if delay.kind == kind and delay.unseen]
        if times:
            parts.append(f"{what} {'at once' if times[-1] < _AT_ONCE else 'after ' + _spread(times)}")
        if unseen:
            parts.append(f"{what} not within {texts.duration(unseen[0].waited)} ({unseen[0].unseen} times)")
    return ", ".join(parts) + f" (tries: {max(len(delay.seconds) + delay.unseen for delay in delays)})"


def _spread(times: list[float]) -> str:
    median, worst = (_short(t) for t in (times[len(times) // 2], times[-1]))
    return median if median == worst else f"{median}, at most {worst}"


def _short(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.0009995 else texts.duration(seconds)


def _speed(found: Measured, judged: Verdict) -> Iterator[str]:
    for what, speed in found.speed.items():
        name = f"list of {found.speed['create'].count}" if what == "list" else what
        yield _row(name, f"{_short(speed.median)}, at most {_short(speed.worst)}")
    if judged.rates:
        ways = ", ".join(f"{rate:,.0f}/s ({what})" for what, rate in judged.rates.items() if what != "schedule")
        yield _row("tasks scheduled", f"up to {judged.rates['schedule']:,.0f}/s by one program")
        yield _row("tasks finished", f"up to {ways} by one runner")


def _surroundings(found: Measured) -> Iterator[str]:
    here, there = found.here, found.there
    if here and there and here.facts["boot"] != there.facts["boot"]:
        yield _row("clocks", f"the other host's is {there.clock_offset - here.clock_offset:+.3f} s ahead, known to "
                             f"{texts.duration(there.round_trip)}")
    if "mtime_offset" in found.created:
        yield _row("times of files", f"{found.created['mtime_offset']:+.3f} s ahead of this host's clock")
    if here:
        files = here.facts.get("files_free")
        yield _row("room", f"{texts.size(here.facts.get('bytes_free', 0))}"
                           f"{'' if files is None else f', {files} files'}")
        _, uid, gid, mode = here.facts["folders"][0]
        yield _row("who may write", f"owner {uid}, group {gid}, mode {mode:o}; you are {here.facts.get('uid')}")


def _conclusion(directory: str, judged: Verdict, current: Settings | None) -> Iterator[str]:
    from runforrest.doctor.verdict import ADJUST, UNTRIED, UNUSABLE
    yield ""
    for remark in judged.remarks:
        yield f"{remark.level}: {remark.text}"
    if judged.level == UNUSABLE:
        yield f"verdict: not usable: {directory} does not keep what the protocol needs"
        return
    if judged.level == UNTRIED:
        yield f"verdict: {judged.level}: make room in {directory}, and ask again"
        return
    yield f"verdict: {judged.level}: {directory} keeps what the protocol needs"
    settings = f'"beat": {judged.beat:g}, "lease": {judged.lease}, "durability": "{judged.durability}"'
    if judged.level == ADJUST:
        yield (f"settings: {settings}: put them into {os.path.join(directory, 'runforrest.json')} while no runner is "
               f"at work{'' if current else ', once TaskList has made it'}")
    else:
        yield f"settings: {settings}: {'as they are' if current else f'what TaskList({directory!r}) chooses'}"


# -- mending -----------------------------------------------------------------------------


def _repair(directory: str, dead: tuple[str, ...], yes: bool, as_json: bool) -> bool:
    """Tell what is wrong, and mend it if that is wanted; True if nothing is left to mend."""
    import time

    from runforrest.doctor import mend, repair, survey
    from runforrest.folder.fsio import FileOps
    fs = FileOps(directory)
    begun = time.monotonic()
    picture = survey.survey(fs)
    mend.check_force(picture.peers, dead)
    findings = repair.plan(picture, dead)
    wanted = [finding for finding in findings if finding.action]
    if not as_json:
        _print_plan(fs.root, findings)
    results: dict[str, str] = {}
    if wanted and _may_mend(len(wanted), yes, as_json):
        with mend.Mender(fs, picture.settings, begun) as mender:
            for finding in wanted:
                results[finding.where] = said = mender.mend(finding)
                if not as_json:
                    click.echo(texts.one_line(f"{'mended' if not said else 'left'}: {finding.where}"
                                              f"{': ' + said if said else ''}", 500))
    if as_json:
        put_json({"directory": fs.root, "findings": [_finding(each, results) for each in findings]})
    return all(results.get(finding.where) == "" for finding in wanted)


def _finding(finding: Finding, results: dict[str, str]) -> dict[str, object]:
    """``mended``: null if it was not tried."""
    said = results.get(finding.where)
    return {"where": finding.where, "what": finding.what, "do": finding.do, "action": finding.action,
            "mended": None if said is None or not finding.action else not said, "why_not": said or ""}


def _may_mend(number: int, yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        click.echo("nothing was mended: say --yes, as nobody can be asked here", err=True)
        return False
    return click.confirm(f"Mend {'this' if number == 1 else f'these {number}'}?", err=True)


def _print_plan(root: str, findings: list[Finding]) -> None:
    wanted = [finding for finding in findings if finding.action]
    told = [finding for finding in findings if not finding.action]
    click.echo(f"{root}: {len(wanted)} to mend, {len(told)} only to be told")
    for group, each in (("would ", wanted), ("", told)):
        for finding in each[:_SHOWN]:
            click.echo(texts.one_line(f"{finding.where}: {finding.what}", 1000))
            click.echo("  " + texts.one_line(f"{group}{finding.do}", 1000))
        if len(each) > _SHOWN:
            click.echo(f"and {len(each) - _SHOWN} more; --json has them all")
