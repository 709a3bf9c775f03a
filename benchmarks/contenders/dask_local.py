"""dask.distributed: persistent workers in a local cluster, nothing on disk."""

from __future__ import annotations

import measuring
import noop
from distributed import Client, LocalCluster, as_completed


def main():
    options = measuring.arguments()
    with LocalCluster(n_workers=measuring.SLOTS, threads_per_worker=1, processes=True, dashboard_address=None,
                      silence_logs=50, local_directory=options.dir) as cluster, Client(cluster) as client:
        client.submit(noop.noop, 0, pure=False).result()
        watch = measuring.Stopwatch()
        for _, _ in as_completed(client.map(noop.noop, range(options.n), pure=False), with_results=True):
            watch.result()
        watch.line(options.n)


if __name__ == "__main__":
    main()
