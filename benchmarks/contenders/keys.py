"""Two processes go through one list of keys: each is claimed, and success is reported; there is no work.

--tool    folder, folder-none (not forced to disk), redis (as `runforrest keyserver` starts it), or run-once
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time

import measuring

SECONDS = 10.0                     # for a server to come up


def work(start, names, run_once):
    """(when the first key was asked for, when the last was done, how many), in seconds that both processes share."""
    if run_once:
        import run_once as once
    else:
        from runforrest import once
    start.wait()
    begun, count = time.monotonic(), 0
    for key in once.DistributedIterator(names, timeout=600):
        once.notify_success(key)
        count += 1
    return begun, time.monotonic(), count


def child(start, names, run_once, answers):
    answers.put(work(start, names, run_once))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def server(tool, folder):
    """The server that the tool needs, or None; the environment then names it."""
    if tool.startswith("folder"):
        from runforrest.once.folder import FolderStore
        FolderStore(f"{folder}/keys", durability="none" if tool == "folder-none" else "normal")
        os.environ["RUNFORREST_KEYS"] = f"{folder}/keys"
        return None
    port = free_port()
    if tool == "redis":
        os.environ["RUNFORREST_KEYS"] = f"redis://127.0.0.1:{port}/0"
        start = "from runforrest.cli.keyserver import keyserver; keyserver()"
        command = [sys.executable, "-c", start, "--db", f"{folder}/db", "--port", str(port)]
    else:
        import run_once
        os.environ["HOME"] = folder
        with open(f"{folder}/.run_once.ini", "w") as file:
            file.write(f"[DEFAULT]\naddress=127.0.0.1\nport={port}\n")
        program = os.path.join(os.path.dirname(run_once.__file__), "cmake-build-release", "distlock")
        command = [program, "--db", f"{folder}/db", "--port", str(port), "--host", "127.0.0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit(f"{tool}: no server after {SECONDS} s")


def main():
    options = measuring.arguments(tool="folder")
    names = [f"k{number:07d}" for number in range(options.n)]
    serving = server(options.tool, options.dir)
    try:
        context = multiprocessing.get_context("spawn")
        start, answers = context.Barrier(measuring.SLOTS), context.Queue()
        processes = [context.Process(target=child, args=(start, names, options.tool == "run-once", answers))
                     for _ in range(measuring.SLOTS)]
        for process in processes:
            process.start()
        found = [answers.get(timeout=600) for _ in processes]
        for process in processes:
            process.join()
    finally:
        if serving is not None:
            serving.terminate()
            serving.wait()
    count = sum(number for _, _, number in found)
    assert count == options.n, f"{count} of {options.n} keys were handed out"
    seconds = max(end for _, end, _ in found) - min(begun for begun, _, _ in found)
    measuring.out(n=options.n, us=seconds / options.n * 1e6, per_second=options.n / seconds)


if __name__ == "__main__":
    main()
