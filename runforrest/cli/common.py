"""What several commands share: arguments, opening a list, completion of task names, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from runforrest.errors import NoSuchTask

if TYPE_CHECKING:
    from runforrest.folder.transitions import TaskFolder
    from runforrest.model.names import Name

F = TypeVar("F", bound=Callable[..., Any])
STATES = ("todo", "doing", "done", "fail")
EVERYWHERE = ("waiting", *STATES)
_COMPLETED = 200                   # names offered to the shell at once
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

directory_argument = click.argument("directory", metavar="DIR", type=click.Path(file_okay=True))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def bytes_option(*names: str, text: str) -> Callable[[F], F]:
    """An option that takes a number of bytes: 1000, 500M, 2G, 1.5GiB; the units are powers of 1024."""
    return click.option(*names, callback=_bytes, metavar="BYTES", help=text)


def _bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    text = value.strip().lower().removesuffix("b").removesuffix("i")
    unit = text[-1:] if text[-1:].isalpha() else ""
    try:
        return int(float(text.removesuffix(unit)) * 1024 ** _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise click.BadParameter(f"{value!r} is not a number of bytes, as 1000000, 500M or 2G", ctx, param) from None


def outcome_option(text: str) -> Callable[[F], F]:
    """``--outcome``: the possible endings."""
    from runforrest.model.outcomes import OUTCOMES
    return click.option("--outcome", type=click.Choice(OUTCOMES), metavar="OUTCOME",
                        help=f"{text}: {', '.join(OUTCOMES)}.")


def trust_options(command: F) -> F:
    """``--trust``, ``--group``, ``--key-file``: whose tasks may be run."""
    for option in (
            click.option("--key-file", metavar="FILE",
                         help="The key with which the list is signed; or set RUNFORREST_KEY_FILE."),
            click.option("--group", is_flag=True, help="Trust the members of the folder's group."),
            click.option("--trust", is_flag=True, help="Run tasks from a folder that other users may write to.")):
        command = option(command)
    return command


def open_folder(directory: str, trust: bool | None = None, group: bool = False,
                key_file: str | None = None) -> TaskFolder:
    """The task list in this folder, checked: see `runforrest.folder.settings.open_list`."""
    from runforrest.folder.fsio import FileOps
    from runforrest.folder.settings import open_list
    from runforrest.folder.signing import key_from
    from runforrest.folder.transitions import TaskFolder
    fs = FileOps(directory)
    return TaskFolder(fs, open_list(fs, trust, group, None if trust is None else key_from(key_file)))


def put_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1, default=str))


def complete_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of tasks for the shell: by id, name or path, whichever has been begun."""
    from runforrest.errors import RunforrestError
    from runforrest.status import places
    try:
        fs = open_folder(str(ctx.params.get("directory") or "")).fs
        found = places(fs, ("fail",) if ctx.command.name == "retry" else EVERYWHERE)
        return list(_completions(((p.path, p.name.id, p.name.label) for p in found), incomplete))
    except (RunforrestError, OSError):
        return []


def _completions(tasks: Iterable[tuple[str, str, str]], incomplete: str) -> Iterable[CompletionItem]:
    offered: set[str] = set()
    for path, id, label in tasks:
        for text in (path,) if "/" in incomplete else (id, label):
            if text.startswith(incomplete) and text not in offered and (incomplete or text == id):
                offered.add(text)
                yield CompletionItem(text, help=path.partition("/")[0])
        if len(offered) >= _COMPLETED:
            return


def named(folder: TaskFolder, tasks: Sequence[str], states: Sequence[str], objection: str) -> list[Name]:
    """The tasks in these states that a person has named: all are looked up before the first one is changed.

    objection  what is said of one that is in another state
    Raises NoSuchTask.
    """
    from runforrest.status import find, finder
    names: dict[Name, None] = {}
    look_up = finder(folder.fs, tasks, states)
    for text in tasks:
        try:
            place = look_up(text)
        except NoSuchTask as error:
            if getattr(error, "matches", None):
                raise
            place = find(folder.fs, text)
            if place.state not in states:
                raise NoSuchTask(f"{place.path} {objection}", matches=[], directory=folder.fs.root) from None
        names[place.name] = None
    return list(names)
