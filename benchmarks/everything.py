"""Everything, with moderate n; `--markdown` prints tables for docs/benchmarks.md."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import commands, durability, fork, futures, mapping, memory, once, operations, overhead, peers, schedule
from benchmarks.common import Broken, Report, folder_arguments

COMMAND = "all"


def arguments(parser: Any) -> None:
    parser.add_argument("--peers", default=",".join(peers.USUAL), help="as for overhead")
    parser.add_argument("--environments", help="as for overhead")
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks, one round")
    folder_arguments(parser)


def run(options: Any, report: Report) -> None:
    place = [*(["--dir", options.dir] if options.dir else []), *(["--ext4"] if options.ext4 else [])]
    rounds = ["--rounds", "1" if options.quick else "3"]
    environments = ["--environments", options.environments] if options.environments else []
    least, most = ("100", "1000,10000") if options.quick else ("1000", "1000,100000")
    for module, words in (
            (overhead, ["-n", least, "--peers", options.peers, *environments, *rounds]),
            (schedule, ["-n", least + "0", *rounds]),
            (operations, ["-n", "30" if options.quick else "300"]),
            (memory, ["-n", most, "--process-n", "100,500" if options.quick else "1000,5000"]),
            (fork, rounds),
            (durability, ["-n", least, "--process-n", least, *rounds]),
            (commands, ["-n", "50" if options.quick else "500", "--disbatch-n", "0" if options.quick else "60",
                        *environments, *rounds]),
            (futures, ["-n", least + "0", *environments, *rounds]),
            (mapping, ["-n", "100" if options.quick else "2000", *(["--no-mpi"] if options.quick else []),
                       *environments, *rounds]),
            (once, ["-n", "500" if options.quick else "5000", *(["--no-original"] if options.quick else []),
                    *environments, *rounds])):
        parser = argparse.ArgumentParser()
        module.arguments(parser)
        try:
            module.run(parser.parse_args([*words, *place]), report)
        except Broken as error:
            report.warn(f"{module.COMMAND} is left out: {error}")
