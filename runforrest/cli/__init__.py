"""The command line: `runforrest COMMAND`, and `python -m runforrest IN OUT` to debug one task.

Modules that commands need are imported when a command runs, so that `--help` and completion are quick.
"""

from runforrest.cli import path         # isort: skip - before anything else is imported
from runforrest.cli.group import main
from runforrest.cli.start import start

__all__ = ["main", "path", "start"]
