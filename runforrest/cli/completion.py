"""`completion`: the script that teaches a shell to complete our commands."""

from __future__ import annotations

import click


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands, options and tasks.

    \b
    bash:  eval "$(runforrest completion bash)"        in ~/.bashrc
    zsh:   eval "$(runforrest completion zsh)"         in ~/.zshrc
    fish:  runforrest completion fish | source         in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class
    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(ctx.find_root().command, {}, "runforrest", "_RUNFORREST_COMPLETE").source())
