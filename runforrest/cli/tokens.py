"""`runforrest tokens`: what the tasks of a list share with each other, on all hosts."""

from __future__ import annotations

import click

from runforrest.cli.common import directory_argument, json_option, open_folder, put_json
from runforrest.errors import InvalidArgument


@click.command()
@directory_argument
@click.argument("wanted", metavar="[NAME=N]...", nargs=-1)
@json_option
def tokens(directory: str, wanted: tuple[str, ...], as_json: bool) -> None:
    """Show the tokens of a list, or say how many there are of one.

    A token stands for whatever there is only so many of: licences, connections.  A task that was scheduled with
    tokens={"license": 1} is started when one of them is free, on whichever host it runs.
    """
    from runforrest.folder.tokens import define, look
    fs = open_folder(directory).fs
    if wanted:
        define(fs, parse(wanted))
    found = look(fs)
    if as_json:
        put_json({name: {"total": token.total, "free": token.free, "holders": token.holders}
                  for name, token in found.items()})
        return
    for name, token in found.items():
        held = "".join(f", {count} with {runner}" for runner, count in sorted(token.holders.items()))
        click.echo(f"{name}: {token.free} of {token.total} free{held}")


def parse(given: tuple[str, ...]) -> dict[str, int]:
    """``("license=3",)`` as a dict.  Raises InvalidArgument."""
    found = {}
    for text in given:
        name, equals, number = text.partition("=")
        if not equals or not number.isdecimal():
            raise InvalidArgument(f"a token must be given as NAME=N, as license=3, not {text!r}", argument="token")
        found[name] = int(number)
    return found
