"""`retry` and `clean`: a person moves tasks, or removes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from runforrest.cli import exits, texts
from runforrest.cli.common import (
    complete_task,
    directory_argument,
    json_option,
    named,
    open_folder,
    outcome_option,
    put_json,
)
from runforrest.errors import InvalidArgument, TaskListInUse

if TYPE_CHECKING:
    from runforrest.folder.transitions import TaskFolder
    from runforrest.model.names import Name


# -- retry -------------------------------------------------------------------------------


@click.command(short_help="Put failed tasks back into todo/.")
@directory_argument
@click.argument("tasks", metavar="[TASK]...", nargs=-1, shell_complete=complete_task)
@click.option("--all", "everything", is_flag=True, help="All failed tasks.")
@outcome_option("All failed tasks whose last attempt ended so")
@json_option
def retry(directory: str, tasks: tuple[str, ...], everything: bool, outcome: str | None, as_json: bool) -> None:
    """Put failed tasks back into todo/, with their history; the same as `mv fail/… todo/`.

    A task that failed only as one that it waited for had failed goes back to waiting/, until that one is done.
    """
    if not tasks and not everything and not outcome:
        raise InvalidArgument("nothing to retry: name tasks, or say --all, or --outcome raised")
    if tasks and (everything or outcome):
        raise InvalidArgument("either name tasks, or say --all or --outcome, not both")
    from runforrest.folder.gates import Gates
    folder = open_folder(directory)
    gates = Gates(folder)
    moved = gates.requeue(_asked_for(folder, tasks, outcome or ""))
    again = {name.id for name, _ in gates.settled}
    ready = [name.id for state, name in moved if state == "todo"]
    waiting = [name.id for state, name in moved if state == "waiting" and name.id not in again]
    if as_json:
        put_json({"count": len(ready) + len(waiting), "requeued": ready, "waiting": waiting, "failed": sorted(again)})
        return
    hint = f"; `runforrest run {directory}` runs {'it' if len(ready) == 1 else 'them'}" if ready else ""
    click.echo(f"{texts.count(len(ready), 'task')} moved to todo/{hint}")
    if waiting:
        click.echo(f"{texts.count(len(waiting), 'task')} moved to waiting/, until what they wait for is done")
    if again:
        click.echo(f"{texts.count(len(again), 'task')} stayed in fail/, as what they wait for is there: retry that too")


def _asked_for(folder: TaskFolder, tasks: tuple[str, ...], outcome: str) -> Iterator[Name]:
    from runforrest.folder import requests
    for name in (named(folder, tasks, ("fail",), "has not failed; only failed tasks can be retried") if tasks
                 else _failed(folder, outcome)):
        requests.withdraw(folder.fs, requests.CANCEL, name.id)      # one that nobody has met
        yield name


def _failed(folder: TaskFolder, outcome: str) -> Iterator[Name]:
    from runforrest.model.names import Name
    from runforrest.status import list_tasks, places
    if not outcome:
        yield from (place.name for place in places(folder.fs, ("fail",)))
        return
    for row in list_tasks(folder.fs, ("fail",), outcome):
        name = Name.parse(row.file.rpartition("/")[2])
        if name is not None:
            yield name


# -- clean -------------------------------------------------------------------------------


@click.command()
@directory_argument
@click.option("--todo", is_flag=True, help="Tasks that wait.")
@click.option("--done", is_flag=True, help="Finished tasks, with their results.")
@click.option("--fail", is_flag=True, help="Failed tasks.")
@click.option("--all", "everything", is_flag=True, help="All tasks, the session, the history, and the folder.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
def clean(directory: str, todo: bool, done: bool, fail: bool, everything: bool, yes: bool, as_json: bool) -> None:
    """Remove tasks for good.  Files that are not the list's stay, and the folder with them."""
    from runforrest.folder import cleaning
    from runforrest.folder.waiting import Waiting
    chosen = {"todo": todo, "done": done, "fail": fail}
    states = [state for state, wanted in chosen.items() if wanted or everything]
    if not states:
        raise InvalidArgument("nothing to remove: choose among --todo, --done and --fail, or say --all")
    everything = everything or len(states) == len(chosen)
    folder = open_folder(directory)
    _refuse_if_in_use(folder)
    counts = {state: folder.count(state) for state in states}
    if "todo" in counts:                   # what waits for others, and what dead runners hold, is to be run, too
        counts["todo"] += sum(1 for _ in Waiting(folder).tasks())
        counts["todo"] += sum(len(names) for names in folder.claims().values())
    if not yes:
        _confirm(folder.fs.root, counts, everything)
    _refuse_if_in_use(folder)              # the person may have taken a while to answer
    cleaning.clean(folder.fs, states, keep_folders=not everything)
    if as_json:
        put_json({"removed": counts})
    else:
        click.echo(f"removed {_listed(counts)}")


def _confirm(root: str, counts: dict[str, int], everything: bool) -> None:
    what = f"{_listed(counts)}{', and the list itself,' if everything else ''} of {root}"
    if not sys.stdin.isatty():
        raise InvalidArgument(f"this would remove {what}; say --yes, as nobody can be asked here")
    if not click.confirm(f"Remove {what} for good?", err=True):
        click.echo("nothing was removed", err=True)
        raise click.exceptions.Exit(exits.FAILED)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} in {state}/" for state, number in counts.items())


def _refuse_if_in_use(folder: TaskFolder) -> None:
    from runforrest.folder.leases import Membership
    alive = Membership(folder).alive()
    if alive:
        raise TaskListInUse(f"{folder.fs.root} is being worked on by {', '.join(alive)}; stop "
                            f"{'it' if len(alive) == 1 else 'them'} first", directory=folder.fs.root, runners=alive)
