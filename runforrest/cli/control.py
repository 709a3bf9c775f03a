"""`pause`, `resume`, `stop`, `cancel`: what is asked of runners on any host, through the folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from runforrest.cli import exits, texts
from runforrest.cli.common import complete_task, directory_argument, json_option, named, open_folder, put_json
from runforrest.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

    from runforrest.folder.transitions import TaskFolder

POLL_SECONDS = 0.25
WAIT_SECONDS = 60.0

runner_argument = click.argument("runner", required=False)
wait_option = click.option("--wait", "seconds", type=float, default=WAIT_SECONDS, show_default=True,
                           metavar="SECONDS", help="Wait so long for an answer; 0 for not at all.")


@click.command()
@directory_argument
@runner_argument
@json_option
def pause(directory: str, runner: str | None, as_json: bool) -> None:
    """Have all runners, or one, start nothing new; what runs is finished.

    Without RUNNER it holds for runners that come later, too, until `resume`.
    """
    from runforrest.folder import requests
    folder = open_folder(directory)
    name = _runner(folder, runner) if runner else ""
    requests.ask(folder.fs, requests.PAUSE, name)
    _said(as_json, {"paused": name or True},
          f"{name or 'every runner'} will start nothing new; `runforrest resume {directory}` goes on")


@click.command()
@directory_argument
@runner_argument
@json_option
def resume(directory: str, runner: str | None, as_json: bool) -> None:
    """Take a `pause` back: the one of RUNNER, or else all of them."""
    from runforrest.folder import requests
    folder = open_folder(directory)
    asked = requests.paused(folder.fs)
    chosen = [name for name in asked if runner is None or (name and name.startswith(runner))]
    if runner and not chosen:
        everyone = "; all are, by `pause` without a runner: say `resume` without one" if "" in asked else ""
        raise InvalidArgument(f"no runner {runner!r} is paused{everyone}", argument="runner")
    for name in chosen:
        requests.withdraw(folder.fs, requests.PAUSE, name)
    _said(as_json, {"resumed": [name or True for name in chosen]}, "resumed" if chosen else "nothing was paused")


@click.command()
@directory_argument
@runner_argument
@click.option("--now", is_flag=True, help="Don't finish the running tasks: end them and put them back, uncounted.")
@wait_option
@json_option
def stop(directory: str, runner: str | None, now: bool, seconds: float, as_json: bool) -> None:
    """Have the runners that are at work, or one of them, finish their running tasks and leave.

    RUNNER is a name as `status` shows it, or its beginning (the host).  Exit code 3 if one of them is
    still there after the wait; the request holds.
    """
    from runforrest.folder import requests
    from runforrest.folder.leases import Membership
    folder = open_folder(directory)
    watcher = Membership(folder)
    chosen = [name for name in watcher.alive() if name.startswith(runner or "")]
    if runner and not chosen:
        raise InvalidArgument(f"no runner {runner!r} is at work on {folder.fs.root}", argument="runner")
    for name in chosen:
        requests.ask(folder.fs, requests.STOP_NOW if now else requests.STOP, name)
    left = _wait(seconds, lambda: [name for name in watcher.alive() if name in chosen])
    gone = [name for name in chosen if name not in left]
    for name in gone:
        requests.forget_runner(folder.fs, name)
    text = f"{texts.count(len(gone), 'runner')} left" if chosen else "no runner is at work there"
    if left:
        text += f"; still there, and asked: {', '.join(left)}"
    _said(as_json, {"left": gone, "asked": left}, text)
    if left and seconds > 0:
        raise click.exceptions.Exit(exits.TROUBLE)


@click.command()
@directory_argument
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True, shell_complete=complete_task)
@wait_option
@json_option
def cancel(directory: str, tasks: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """End tasks that wait or run, on whatever host: they go to fail/ as cancelled, and are not tried again.

    Exit code 3 if one of them has not ended after the wait; the request holds.
    """
    from runforrest.folder.cancelling import Canceller
    folder = open_folder(directory)
    names = named(folder, tasks, ("waiting", "todo", "doing"),
                  "has ended already; only tasks that wait or run can be cancelled")
    ids = list(dict.fromkeys(name.id for name in names))
    canceller = Canceller(folder, ids)
    left = _wait(seconds, canceller.look)
    cancelled, ended = canceller.cancelled, canceller.ended
    parts = [f"{texts.count(len(cancelled), 'task')} cancelled"]
    if ended:
        parts.append(f"ended before: {', '.join(ended)}")
    if left:
        parts.append(f"not ended yet, and asked: {', '.join(left)}")
    _said(as_json, {"cancelled": cancelled, "ended": ended, "asked": left}, "; ".join(parts))
    if left and seconds > 0:
        raise click.exceptions.Exit(exits.TROUBLE)


def _runner(folder: TaskFolder, beginning: str) -> str:
    """The runner at work whose name begins so."""
    from runforrest.folder.leases import Membership
    found = [name for name in Membership(folder).alive() if name.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    raise InvalidArgument(f"{beginning!r} could be {' or '.join(found)}" if found else
                          f"no runner {beginning!r} is at work on {folder.fs.root}", argument="runner")


def _wait(seconds: float, left: Callable[[], list[str]]) -> list[str]:
    """Ask until nothing is left, or the time is over; what is left then."""
    deadline = time.monotonic() + seconds
    while (still := left()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return still


def _said(as_json: bool, value: object, text: str) -> None:
    if as_json:
        put_json(value)
    else:
        click.echo(texts.printable(text))
