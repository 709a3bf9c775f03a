"""No-op calls by an executor: `submit` of all of them, and all their results; then one after the other.

--tool  ours, ours-process, processes, loky, dask, executorlib or parsl
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys

import measuring
import noop
from measuring import now

WARM, ALONE = 4, 50
SLOTS = measuring.SLOTS


@contextlib.contextmanager
def ours(place, isolation="reuse"):
    from runforrest.futures import Executor
    with Executor(f"{place}/list", SLOTS, isolation=isolation, durability="none") as executor:
        yield executor


@contextlib.contextmanager
def processes(place):
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(SLOTS) as executor:
        yield executor


@contextlib.contextmanager
def of_loky(place):
    import loky
    executor = loky.ProcessPoolExecutor(SLOTS, timeout=60)
    yield executor
    executor.shutdown()


@contextlib.contextmanager
def of_dask(place):
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=SLOTS, threads_per_worker=1, processes=True, dashboard_address=None,
                      silence_logs=50, local_directory=place) as cluster, Client(cluster) as client:
        yield client.get_executor()


@contextlib.contextmanager
def of_executorlib(place):
    from executorlib import SingleNodeExecutor
    with SingleNodeExecutor(max_workers=SLOTS, block_allocation=True, hostname_localhost=True) as executor:
        yield executor


@contextlib.contextmanager
def of_parsl(place):
    import parsl
    from parsl.concurrent import ParslPoolExecutor
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    there = parsl.HighThroughputExecutor(label="here", max_workers_per_node=SLOTS, address="127.0.0.1", encrypted=False,
                                         provider=parsl.providers.LocalProvider(init_blocks=1, max_blocks=1))
    config = parsl.Config(executors=[there], run_dir=f"{place}/parsl", usage_tracking=0)
    with ParslPoolExecutor(config) as executor:
        yield executor


TOOLS = {"ours": ours, "ours-process": lambda place: ours(place, "process"), "processes": processes, "loky": of_loky,
         "dask": of_dask, "executorlib": of_executorlib, "parsl": of_parsl}


def main():
    options = measuring.arguments(tool="ours")
    n = options.n
    begun = now()
    with TOOLS[options.tool](options.dir) as executor:
        executor.submit(noop.noop, 0).result()
        first = now() - begun
        for future in [executor.submit(noop.noop, i) for i in range(WARM)]:
            future.result()
        held, (cpu, _), begun = memory(), measuring.spent(), now()
        futures = [executor.submit(noop.noop, i) for i in range(n)]
        submitted = now() - begun
        assert [future.result() for future in futures] == list(range(n))
        seconds = now() - begun
        cpu, held = measuring.spent()[0] - cpu, memory() - held
        alone = []
        for i in range(ALONE):
            begun = now()
            executor.submit(noop.noop, i).result()
            alone.append(now() - begun)
        measuring.out(n=n, us=seconds / n * 1e6, submit_us=submitted / n * 1e6, cpu_us=cpu / n * 1e6,
                      alone_us=statistics.median(alone) * 1e6, first_s=first, bytes=held / n)


def memory():
    """Bytes that this process holds."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
