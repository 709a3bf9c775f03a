"""`python -m benchmarks COMMAND`, from the root of the repository.

It ends with 0 whatever the numbers are: goals are printed as met or missed, not asserted.
"""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks import (
    commands,
    durability,
    everything,
    fork,
    futures,
    mapping,
    memory,
    once,
    operations,
    overhead,
    schedule,
)
from benchmarks.common import Broken, Report

COMMANDS = (overhead, schedule, operations, memory, fork, durability, commands, futures, mapping, once, everything)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        help = module.__doc__.splitlines()[0]
        command = subparsers.add_parser(module.COMMAND, help=help, description=module.__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        module.arguments(command)
        how = command.add_mutually_exclusive_group()
        how.add_argument("--json", action="store_true", help="JSON lines: one per row, measurement and goal")
        how.add_argument("--markdown", action="store_true", help="tables for docs/benchmarks.md")
        command.set_defaults(module=module)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that folders are removed and images unmounted
    report = Report("json" if options.json else "markdown" if options.markdown else "text")
    try:
        report.header()
        options.module.run(options, report)
        report.footer()
    except Broken as error:
        print(f"python -m benchmarks {options.module.COMMAND}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
