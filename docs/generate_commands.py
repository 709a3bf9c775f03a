"""Write docs/commands.md out of the commands themselves: `python docs/generate_commands.py`.

With `--check` nothing is written; the exit code is 1 if the page is not up to date.
The page is made from names, types and texts rather than from `--help`, whose form depends on the
versions of Python and click.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "commands.md"
HEAD = """# Commands

<!-- Made by `python docs/generate_commands.py`; a test checks that it is up to date.  Don't edit. -->

`runforrest COMMAND …`, or `python -m runforrest COMMAND …` where the command is not on the path.
Results go to stdout, messages to stderr.  An error is one line that begins with `Error:`.
"""
DEBUG_TEXT = """Take one task out of a list and run it here, in this very process: no fork, no limits, output where it
always goes.  The task's file stays as it is, the task with its result is written to OUT.
`python -m pdb -m runforrest IN OUT -r` stops where the task raised."""


def page() -> str:
    """The whole page."""
    from runforrest.cli import exits, main
    parts = [HEAD, *_contents(main), *_exit_codes(exits.__doc__ or "")]
    for name in sorted(main.commands):
        parts += _command(name, main.commands[name])
    return "\n".join([*parts, *_debug()]).rstrip() + "\n"


def _contents(group: click.Group) -> Iterator[str]:
    yield "| command | what it does |\n| --- | --- |"
    for name in sorted(group.commands):
        text = group.commands[name].get_short_help_str(200)
        yield f"| [`{name}`](#runforrest-{name}) | {_cell(text)} |"
    yield "| [`python -m runforrest IN OUT`](#debugging-one-task) | Run one task in the foreground. |\n"


def _exit_codes(text: str) -> Iterator[str]:
    yield "## Exit codes\n\n| code | meaning |\n| --- | --- |"
    for code, meaning in re.findall(r"^\s*(\d+)  +(.*)$", text, re.MULTILINE):
        yield f"| {code} | {_cell(meaning)} |"
    yield ""


def _command(name: str, command: click.Command) -> Iterator[str]:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    usage = " ".join(["runforrest", name, "[OPTION]...", *map(_argument, arguments)])
    yield f"## runforrest {name}\n\n```text\n{usage}\n```\n"
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "").partition("\f")[0]):
        if paragraph.startswith("\b\n"):
            yield f"```text\n{paragraph[2:]}\n```\n"
        else:
            yield f"{paragraph}\n"
    yield from _options((_names(o), o.help or "") for o in command.params if isinstance(o, click.Option))


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    choices = getattr(argument.type, "choices", None)
    text = "|".join(map(str, choices)) if choices else (argument.name or "").upper()
    return text if argument.required else f"[{text}]"


def _names(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    choices = getattr(option.type, "choices", None)
    if option.is_flag:
        return f"`{names}`"
    kind = option.metavar or ("|".join(map(str, choices)) if choices else "N" if option.type.name.startswith("int") else
                              option.type.name.upper())
    return f"`{names} {kind}`"


def _options(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield "| option | meaning |\n| --- | --- |"
    for names, text in rows:
        yield f"| {_cell(names)} | {_cell(text)} |"
    yield ""


def _debug() -> Iterator[str]:
    from runforrest.cli import debug
    parser = debug._parser()
    yield f"## Debugging one task\n\n```text\npython -m runforrest IN OUT [OPTION]...\n```\n\n{DEBUG_TEXT}\n"
    rows = []
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            names = ", ".join(action.option_strings) or str(action.metavar)
            kind = f" {action.metavar}" if action.option_strings and action.metavar else ""
            rows.append((f"`{names}{kind}`", action.help or ""))
    yield from _options(rows)
    yield (parser.epilog or "").split("`runforrest --help`")[0].strip()


def _cell(text: str) -> str:
    """Text as it may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    sys.path.insert(0, str(ROOT))
    text = page()
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.exists() and PAGE.read_text("utf-8") == text else 1
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
