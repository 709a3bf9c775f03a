"""Starts an engine and says what becomes of its runners: `python -m tests.engines.driver JSON`.

SIGINT has them finish what they run, SIGTERM put it back.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from runforrest.engines import Engine, slurm, ssh, starts


def engine(given: dict[str, Any]) -> Engine:
    places_options = given.get("places", {})
    where = (given["directory"], given["prefix"], "L", given.get("arguments", ["--quiet"]), given.get("environment"))
    if given["method"] == "ssh":
        return ssh.engine(starts(ssh.places(given["nodes"], **places_options), *where))
    job = slurm.allocation()
    assert job is not None
    places = job.places(**places_options, warn=say)
    print(*places, sep="\n", flush=True)
    begun = starts(places, *where)
    retirement = slurm.retirement(job, begun, given.get("retire"), say)
    retirement.quiet = given.get("quiet", retirement.quiet)
    return slurm.engine(begun, places, retirement)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    made = engine(json.loads(sys.argv[1]))
    signal.signal(signal.SIGINT, lambda *_: made.stop())
    signal.signal(signal.SIGTERM, lambda *_: made.stop(now=True))
    made.start()
    print("pid", os.getpid(), flush=True)
    while made.running:
        for ended in made.wait(0.2):
            print(json.dumps({"node": ended.start.node, "rank": ended.start.rank, "code": ended.code,
                              "failed": ended.failed, "lost": ended.lost, "text": str(ended)}), flush=True)
    made.close()


if __name__ == "__main__":
    main()
