"""`runforrest keyserver`: a real Redis server for keys that are claimed once."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--db", required=True, metavar="PATH", help="The folder that keeps everything.")
@click.option("--cache_size", "--cache-size", "megabytes", type=int, default=200, show_default=True, metavar="MB",
              help="Memory for keys and values; when it is used up, new keys are refused.")
@click.option("--port", type=int, default=22113, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True,
              help="The address on which to listen; others than a loopback address get a password.")
@click.option("--password", is_flag=True,
              help="Ask for a password on a loopback address, too, which every user of this host can reach.")
def keyserver(db: str, megabytes: int, port: int, host: str, password: bool) -> None:
    """Start a Redis or Valkey server for keys that are claimed once, on machines that share no filesystem.

    Every change is on disk before it is answered.  The password, if there is one, is made at the first start, and is in
    PATH/password, which only you can read.  What clients need is printed.  The server stays in the foreground, and ends
    in good order with Ctrl-C or SIGTERM.

    \b
    runforrest keyserver --db ~/keys
    export RUNFORREST_KEYS=redis://127.0.0.1:22113/0
    """
    from runforrest.once.keyserver import prepare
    server = prepare(db, megabytes, host, port, password)
    click.echo(server.help())
    sys.stdout.flush()
    server.become()
