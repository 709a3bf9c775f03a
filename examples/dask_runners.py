"""The workers of a Dask cluster as runners: `python examples/dask_runners.py [FOLDER [SCHEDULER]]`, with distributed.

Without the address of a scheduler, a small cluster is started on this host.  The program uses futures; who runs its
calls are the workers, each call in a process of its own slot, with a time limit.
"""

import os
import sys

from distributed import Client, LocalCluster

from runforrest import Executor, deferred
from runforrest.engines import executor as engines


@deferred
def digits(power: int, base: int = 2) -> int:
    return len(str(base ** power))


def main():
    folder = os.path.join(sys.argv[1] if len(sys.argv) > 1 else ".", "digits")
    address = sys.argv[2] if len(sys.argv) > 2 else LocalCluster(n_workers=2, threads_per_worker=1,
                                                                 dashboard_address=None)
    with Client(address) as client, Executor(folder, max_workers=0) as calls:      # 0: the cluster runs them
        limited = calls.options(timeout=60)
        found = [limited.submit(digits, power) for power in (10, 100, 1000)]
        total = calls.options(after=found).submit(print, "all before this have ended")
        with engines.engine(client.get_executor(), folder, runners=2) as runners:
            print("digits:", [future.result() for future in found])
            total.result()
            print("exit codes:", sorted(ended.code for ended in runners.wait(60)))


if __name__ == "__main__":
    main()
