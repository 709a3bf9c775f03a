"""The `runforrest` command: its subcommands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import click

from runforrest.cli import exits, texts
from runforrest.cli.batch import batch
from runforrest.cli.change import clean, retry
from runforrest.cli.completion import completion
from runforrest.cli.control import cancel, pause, resume, stop
from runforrest.cli.doctor import doctor
from runforrest.cli.keyserver import keyserver
from runforrest.cli.look import ls, show, status
from runforrest.cli.run import run
from runforrest.cli.submit import submit
from runforrest.cli.tokens import tokens
from runforrest.errors import ProcessError, RunforrestError


class Group(click.Group):
    """A group whose errors are one line on stderr."""

    def main(self, *args: Any, **extra: Any) -> Any:
        extra.setdefault("prog_name", "runforrest")     # also as `python -m runforrest`
        try:
            return super().main(*args, **extra)
        finally:
            self._drop_what_nobody_reads()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else ctx.command_path
            self._end(f"{error.format_message().rstrip('.')}; see `{path} --help`", exits.USAGE)
        except RunforrestError as error:
            self._end(str(error), exits.TROUBLE if isinstance(error, ProcessError) else exits.USAGE)
        except OSError as error:
            if error.errno == errno.EPIPE:              # `runforrest ls … | head`: click knows what to do
                raise
            where = f": {error.filename}" if error.filename else ""
            self._end(f"{error.strerror or error}{where}", exits.TROUBLE)
        except KeyboardInterrupt:
            self._end("interrupted", exits.INTERRUPTED)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:                      # a defect: its code must not say that a task failed
            traceback.print_exc()
            self._end(f"{type(error).__name__}: {error}", exits.TROUBLE)

    @staticmethod
    def _drop_what_nobody_reads() -> None:
        """Messages for a terminal that is gone would be tried once more at the exit, with Python's 120 for its code."""
        try:
            sys.stderr.flush()
        except OSError:
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stderr.fileno())
        except (AttributeError, ValueError):            # there is no stderr
            pass

    @staticmethod
    def _end(message: str, code: int) -> NoReturn:
        with suppress(OSError):                         # a log on a full disk: the code is right all the same
            click.echo(f"Error: {texts.printable(' '.join(message.split()))}", err=True)
        raise click.exceptions.Exit(code)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version
    try:
        number = version("runforrest")
    except PackageNotFoundError:           # run from a checkout
        number = "(not installed)"
    click.echo(f"runforrest {number}")
    ctx.exit()


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
             epilog="To debug one task in the foreground: python -m runforrest TASK.pkl OUT.pkl [-r] [-p] [-s SESSION]")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
              help="Show the version and leave.")
def main() -> None:
    """Run the tasks of a folder, and look at them."""


for _command in (run, batch, submit, status, ls, show, retry, cancel, pause, resume, stop, tokens, clean, doctor,
                 keyserver, completion):
    main.add_command(_command)
