"""`runforrest submit`: runners as jobs of a batch system."""

from __future__ import annotations

import shlex
import sys

import click

from runforrest.cli.common import directory_argument, json_option, open_folder, put_json
from runforrest.cli.run import run
from runforrest.errors import InvalidArgument


class _WithOthersOptions(click.Command):
    """An option that is not its own is one of sbatch, most likely."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(f"no such option: {error.option_name}; those of sbatch stand behind --, as in "
                                   "`runforrest submit slurm DIR -n 20 -- --partition=long`", ctx) from None


@click.command(cls=_WithOthersOptions)
@click.argument("system", type=click.Choice(["slurm"]))
@directory_argument
@click.argument("options", metavar="[-- SBATCH_OPTION... [-- RUN_OPTION...]]", nargs=-1, type=click.UNPROCESSED,
                required=False)
@click.option("-n", "--runners", type=int, default=1, show_default=True, metavar="N", help="Runners to submit.")
@click.option("--slots", type=int, metavar="N",
              help="Tasks that each of them runs side by side; as many as it has CPUs if left out.")
@click.option("--python", default=sys.executable, metavar="FILE", help="The interpreter there; this one if left out.")
@click.option("--dry-run", is_flag=True, help="Print what sbatch would be given, and submit nothing.")
@json_option
def submit(system: str, directory: str, options: tuple[str, ...], runners: int, slots: int | None, python: str,
           dry_run: bool, as_json: bool) -> None:
    """Submit runners to Slurm: an array of N jobs, each of which works on the list until nothing is left.

    Behind the first -- are options of sbatch, behind the second those of `runforrest run`.  The id of the job
    is printed.  What the runners say comes into DIR.slurm/.

    \b
    runforrest submit slurm DIR -n 20 -- --partition=long --cpus-per-task=8 --time=4:00:00 -- --retries 2

    A runner knows its time limit, puts back in time what it could not finish, and so it does when Slurm
    preempts it; then Slurm starts it again.
    """
    from runforrest.engines import submission
    open_folder(directory)
    if slots is not None and slots < 1:
        raise InvalidArgument(f"--slots must be 1 or more, not {slots}", argument="slots")
    end = options.index("--") if "--" in options else len(options)
    run.make_context("runforrest run", [directory, *options[end + 1:]])     # what is wrong is said here, and not there
    script = submission.slurm_script(directory, slots, options[end + 1:], python)
    if dry_run:
        click.echo(shlex.join(submission.slurm_command(directory, runners, script, options[:end])))
        return
    job = submission.submit_slurm(directory, runners, script, options[:end])
    if as_json:
        put_json({"job": job, "runners": runners, "output": submission.output_folder(directory)})
    else:
        click.echo(job)
