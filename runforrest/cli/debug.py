"""`python -m runforrest IN OUT`: run one task in the foreground, here, with its true traceback.

Stays out of the way: no fork, no limits, and the task's output goes where it always goes.
"""

from __future__ import annotations

import argparse
import os
import pickle
import secrets
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from runforrest import errors, graph
from runforrest.cli import exits
from runforrest.folder import layout, sessions, settings, signing
from runforrest.folder.fsio import FileOps
from runforrest.folder.stored import StoredTask
from runforrest.folder.trust import Trust
from runforrest.graph import Task
from runforrest.model.names import Name
from runforrest.process.child import pickled_error, traceback_text
from runforrest.process.claimed import check_loadable
from runforrest.process.surroundings import update_environment


def debug(arguments: Sequence[str]) -> int:
    """Run the task in IN, write it with its result to OUT; returns the exit code.

    With ``-r`` the task's exception comes through, so that a debugger stops where it was raised.
    """
    options = _parser().parse_args(arguments)
    infile, outfile = os.path.abspath(options.infile), os.path.abspath(options.outfile)
    try:
        fs = _list_of(infile, options)
        stored, call = _read(infile, fs.trust)
        check_loadable(stored.envelope)
        _load_session(options.session, fs)
        _enter(stored)
    except (OSError, ValueError, errors.RunforrestError) as error:
        _give_up(str(error))
    try:
        loaded = graph.loads(call)
    except Exception as error:
        if options.do_raise:
            raise
        _give_up(f"{infile} can't be unpickled: {type(error).__name__}: {error}; -r shows the traceback")
    task = loaded if isinstance(loaded, Task) else graph.defer(loaded)
    task.__dict__.setdefault("metadata", stored.envelope.get("metadata"))
    begun = time.perf_counter()
    try:
        value = graph.evaluate(loaded)
    except BaseException as error:
        _write(outfile, task, None, error, time.perf_counter() - begun)
        if options.do_print:
            print(traceback_text(error), end="", flush=True)
        if options.do_raise:
            if isinstance(error, SystemExit):       # else it would end us with the task's own exit code, silently
                raise errors.Crashed(f"the task called sys.exit({error.code!r})").with_traceback(
                    error.__traceback__) from error
            raise
        return exits.RAISED
    return _finish(outfile, task, value, time.perf_counter() - begun, options)


def _finish(outfile: str, task: Task, value: Any, runtime: float, options: argparse.Namespace) -> int:
    """Write the value; one that can't be pickled counts as the task's error, as it does in a run."""
    problem = _write(outfile, task, value, None, runtime)
    if problem is None:
        return exits.OK
    if options.do_print:
        print(traceback_text(problem), end="", flush=True)
    if options.do_raise:
        raise problem
    return exits.RAISED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runforrest", description="Run one task in the foreground, to debug it.",
        epilog="Exit code: 0 the task returned, 255 it raised, 1 with -r if it raised, or if IN or the session "
               "can't be read.  IN stays as it is.  `runforrest --help` has the other commands.")
    parser.add_argument("infile", metavar="IN", help="the task's file, as in todo/, doing/, done/ or fail/")
    parser.add_argument("outfile", metavar="OUT", help="the file for the task with its result")
    parser.add_argument("-s", "--session", "--sessionfile", metavar="FILE", help="load this dill session first")
    parser.add_argument("--trust", action="store_true", help="run a task that other users may have written")
    parser.add_argument("--group", action="store_true", help="trust the members of the folder's group")
    parser.add_argument("--key-file", metavar="FILE",
                        help="the key with which the list is signed; or set RUNFORREST_KEY_FILE")
    parser.add_argument("-p", "--do-print", "--do_print", action="store_true",
                        help="print the traceback of the task's exception on stdout")
    parser.add_argument("-r", "--do-raise", "--do_raise", action="store_true",
                        help="raise the task's exception, for python -m pdb -m runforrest IN OUT -r")
    return parser


def _list_of(infile: str, options: argparse.Namespace) -> FileOps:
    """The list that IN is in, checked; for a file elsewhere just its folder, with what holds for the file."""
    key = signing.key_from(options.key_file)
    parts = infile.split(os.sep)
    for depth, state in ((2, parts[-2:-1]), (3, parts[-3:-2])):
        fs = FileOps(os.sep.join(parts[:-depth]) or os.sep)
        if state and state[0] in layout.EVERYWHERE and os.path.isdir(fs.path(layout.TODO)):
            settings.open_list(fs, options.trust, options.group, key)
            return fs
    group = os.stat(os.path.dirname(infile)).st_gid if options.group else None
    return FileOps(os.path.dirname(infile), trust=Trust(options.trust, group, key=key))


def _read(infile: str, trust: Trust) -> tuple[StoredTask, bytes]:
    name = Name.parse(os.path.basename(infile)) or Name(os.path.basename(infile) or "task")
    try:
        fd = os.open(infile, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ValueError(f"there is no task file {infile}") from None
    try:
        trust.check(fd, infile)
        stored = StoredTask.read(fd, name)
        call = stored.call(fd)
        stored.check_call(trust, call)
        return stored, call
    except ValueError as error:
        raise ValueError(f"{infile}: {error}") from None
    finally:
        os.close(fd)


def _load_session(session: str | None, fs: FileOps) -> None:
    if session is None:
        return
    if not os.path.isfile(session):
        raise ValueError(f"there is no session file {session}")
    import dill
    try:
        dill.load_module(sessions.load(fs, session))
        graph.use_session()
    except Exception as error:
        raise ValueError(f"the session {session} can't be loaded: {type(error).__name__}: {error}") from error


def _enter(stored: StoredTask) -> None:
    """The task's import path, working directory and environment, as its child would have them."""
    envelope = stored.envelope
    path = [str(p) for p in envelope.get("path") or []]
    sys.path[:] = path + [p for p in sys.path if p not in path]
    if envelope.get("chdir"):
        os.chdir(envelope["chdir"])
    elif os.path.isdir(envelope.get("cwd") or ""):
        os.chdir(envelope["cwd"])
    update_environment(envelope.get("env") or {})
    os.environ["RUNFORREST_TASK"] = stored.name.id
    os.environ["RUNFORREST_ATTEMPT"] = stored.name.attempt


def _write(outfile: str, task: Task, value: Any, error: BaseException | None, runtime: float) -> BaseException | None:
    """Write the task with its result: whole, or not at all.  Returns why it could not be pickled, if so."""
    kept = None if error is None else pickle.loads(pickled_error(error))
    task.__dict__.update(returnvalue=value, errorvalue=kept, runtime=runtime)
    problem: BaseException | None = None
    try:
        data, _ = graph.dumps(task)
    except Exception as failure:
        problem = errors.UnpicklableError(f"the value returned by {graph.label(task)} can't be pickled: {failure}")
        problem.__cause__ = failure
        task.__dict__.update(returnvalue=None, errorvalue=error or problem)
        data = _without_call(task)
    temporary = f"{outfile}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, outfile)
    except OSError as failure:
        if error is not None:
            traceback.print_exception(error)
        _give_up(f"{outfile} can't be written: {failure.strerror}")
    return problem


def _without_call(task: Task) -> bytes:
    """The task if it can be pickled now; else, as its arguments have changed, a stand-in with the same result."""
    try:
        return graph.dumps(task)[0]
    except Exception:
        stand_in = graph.defer(graph.label(task))
        kept = pickle.loads(pickled_error(task.errorvalue))
        stand_in.__dict__.update(returnvalue=None, errorvalue=kept, runtime=task.runtime)
        return graph.dumps(stand_in)[0]


def _give_up(message: str) -> NoReturn:
    print(f"Error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(exits.BROKEN)
