"""`status`, `ls`, `show`: they only read, and never unpickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import click

from runforrest.cli import texts
from runforrest.cli.common import (
    EVERYWHERE,
    complete_task,
    directory_argument,
    json_option,
    open_folder,
    outcome_option,
    put_json,
)

if TYPE_CHECKING:
    from runforrest.model.records import Attempt
    from runforrest.status import Description, Row, RunnerState

LISTED = 1000                      # rows that `ls` prints for people if not told otherwise
_HELD = 5                          # tasks of a runner that `status` names


# -- status ------------------------------------------------------------------------------


@click.command(short_help="Count the tasks, and tell who is at work.")
@directory_argument
@json_option
def status(directory: str, as_json: bool) -> None:
    """How many tasks are where, who is at work, and how long it will take."""
    from runforrest.status import snapshot
    found = snapshot(open_folder(directory))
    if as_json:
        put_json(found.to_json())
        return
    click.echo(found.directory)
    click.echo("  ".join(f"{state} {getattr(found, state)}" for state in EVERYWHERE
                         if state != "waiting" or found.waiting))
    if found.rate:
        left = "" if found.time_left is None else f", {texts.duration(found.time_left)} left"
        click.echo(f"{texts.rate(found.rate)}{left}")
    if found.paused:
        click.echo(texts.printable(f"paused by {found.paused}; `runforrest resume {directory}` goes on"))
    if not found.runners and (found.todo or found.waiting):
        click.echo("nobody is at work; `runforrest run` starts a runner")
    for runner in found.runners:
        _print_runner(runner)


def _print_runner(runner: RunnerState) -> None:
    facts = [f"runner {runner.name} {runner.state}"]
    if runner.host:
        facts.append(f"host {runner.host}, pid {runner.pid}")
    if runner.state == "unknown" and runner.beat:
        facts.append(f"last heartbeat about {texts.ago(runner.beat)}")
    if runner.state == "lost":
        facts.append("the next runner takes back what it held")
    if runner.state == "stopped":
        facts.append("it goes on with SIGCONT, or loses its tasks when its lease is over")
    if runner.asked:
        facts.append(f"asked to {runner.asked}")
    facts.append(texts.count(len(runner.tasks), "task"))
    click.echo(texts.one_line(", ".join(facts), 500))
    for task in runner.tasks[:_HELD]:
        since = f", claimed {texts.ago(task.since)}" if task.since else ""
        click.echo(f"  {texts.one_line(task.id, 200)}{since}")
    if len(runner.tasks) > _HELD:
        click.echo(f"  and {len(runner.tasks) - _HELD} more")


# -- ls ----------------------------------------------------------------------------------


@click.command(short_help="List tasks.")
@directory_argument
@click.argument("state", required=False, type=click.Choice(EVERYWHERE))
@json_option
@click.option("--limit", type=click.IntRange(0), help=f"At most so many; 0 for all, which is the default with --json; "
              f"else it is {LISTED}.")
@outcome_option("Only tasks whose last attempt ended so")
@click.option("--name", metavar="PATTERN", default="", help="Only tasks whose name fits, as 'sim*'.")
def ls(directory: str, state: str | None, as_json: bool, limit: int | None, outcome: str | None, name: str) -> None:
    """List tasks, in the order of scheduling: waiting (for others), todo, doing, done, fail, or all.

    With --json, one object a line.
    """
    from runforrest.status import list_tasks
    most = limit if limit is not None else 0 if as_json else LISTED
    rows = list_tasks(open_folder(directory).fs, (state,) if state else (), outcome or "", name, most and most + 1)
    for row in islice(rows, most or None):
        print(json.dumps(vars(row)) if as_json else _line(row))      # click.echo flushes each line
    if most and next(rows, None) is not None:
        click.echo(f"there are more; --limit 0 lists all (this is --limit {most})", err=True)


def _line(row: Row) -> str:
    facts = [f"{row.state:5} {row.id}"]
    if row.runner:
        facts.append(f"at {row.runner}")
    if row.tries > 1:
        facts.append(f"try {row.tries}")
    if row.outcome:
        facts.append(row.outcome)
    if row.runtime is not None:
        facts.append(texts.duration(row.runtime))
    if row.error or row.message:
        most = 500 if row.outcome == "refused" else 100     # what to do about it stands at the end
        facts.append(texts.one_line(": ".join(filter(None, (row.error, row.message))), most))
    return texts.printable("  ".join(facts))


# -- show --------------------------------------------------------------------------------


@click.command(short_help="Tell all about one task.")
@directory_argument
@click.argument("task", shell_complete=complete_task)
@json_option
def show(directory: str, task: str, as_json: bool) -> None:
    """All about one task: how it was scheduled, each attempt, traceback and output.

    TASK is its id, name, file, or any part of these that fits no other task.
    """
    from runforrest.status import describe, find
    folder = open_folder(directory)
    found = describe(folder, find(folder.fs, task))
    if as_json:
        put_json(found.to_json())
        return
    click.echo(_text_of(found, folder.fs.root))


def _text_of(found: Description, root: str) -> str:
    envelope, place = found.envelope, found.place
    by = f" by {envelope.user}" if envelope.user else ""
    on = f" on {envelope.host}" if envelope.host else ""
    with_python = f", Python {envelope.python}" if envelope.python else ""
    pairs = [
        ("task", envelope.id), ("name", envelope.name), ("call", envelope.label),
        ("state", place.state + (f", claimed by {place.runner}" if place.state == "doing" else "")),
        ("waits for", _waits_for(found)), ("group", envelope.group),
        ("file", os.path.join(root, place.path)),
        ("scheduled", f"{envelope.scheduled}{on}{by}{with_python}" if envelope.scheduled else ""),
        ("folder", envelope.chdir or envelope.cwd), ("priority", envelope.priority or ""),
        ("limits", _pairs(envelope.limits)), ("environment", _pairs(envelope.env)),
        ("metadata", "" if envelope.metadata is None else envelope.metadata),
        ("attempts", "" if found.attempts else "none so far")]
    lines = [f"{key:12}{texts.one_line(value, 1000)}" for key, value in pairs if value != ""]
    for attempt in found.attempts:
        lines += ["", *_attempt(attempt, root)]
    return "\n".join(lines)


def _waits_for(found: Description) -> str:
    if found.place.state != "waiting":
        return ""
    shown = [f"{id} ({state or 'nowhere in the list: it was removed'})"
             for id, state in islice(found.waits_for.items(), _HELD)]
    more = f" and {len(found.waits_for) - _HELD} more" if len(found.waits_for) > _HELD else ""
    return ", ".join(shown) + more if shown else "nothing any more; the next runner moves it to todo/"


def _attempt(attempt: Attempt, root: str) -> list[str]:
    how = attempt.outcome or "unknown"
    if attempt.signal is not None:
        how += f", signal {attempt.signal}"
    if attempt.exit_code is not None:
        how += f", exit code {attempt.exit_code}"
    used = [f"{what} {text}" for what, text in (
        ("took", _maybe(texts.duration, attempt.duration)), ("the call", _maybe(texts.duration, attempt.runtime)),
        ("cpu", _maybe(texts.duration, attempt.cpu)), ("peak", _maybe(texts.size, attempt.peak_bytes))) if text]
    pairs = [
        ("where", ", ".join(f"{what}{value}" for what, value in (
            ("", attempt.host), ("pid ", attempt.pid), ("runner ", attempt.runner)) if value)),
        ("when", " to ".join(filter(None, (attempt.started, attempt.ended)))),
        ("used", ", ".join(used)),
        ("error", ": ".join(filter(None, (attempt.error, attempt.message)))),
        *((what, os.path.join(root, path) if path else "")
          for what, path in (("log", attempt.log), ("errors log", attempt.errors_log)))]
    lines = [texts.one_line(f"attempt {attempt.number}: {how}", 500)]
    lines += [f"  {key:10}{texts.one_line(value, 1000)}" for key, value in pairs if value]
    lines += _block("traceback", attempt.traceback)
    return (lines + _stream("output", attempt.output, attempt.output_bytes)
            + _stream("standard error", attempt.errors, attempt.errors_bytes))


def _stream(title: str, text: str, size: int) -> list[str]:
    whole = size <= len(text.encode("utf-8", "surrogatepass"))
    return _block(title if whole else f"{title} (the end of {texts.size(size)})", text)


def _block(title: str, text: str) -> list[str]:
    return [f"  {title}:", *(f"    {line}" for line in texts.printable(text).rstrip("\n").split("\n"))] if text else []


def _maybe(text: Callable[[float], str], value: float | None) -> str:
    return "" if value is None else text(value)


def _pairs(found: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in found.items())


