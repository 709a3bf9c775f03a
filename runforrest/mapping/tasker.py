"""`Tasker`: a function mapped over arguments by the ranks of an MPI program, each result kept in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runforrest.arguments import check_path
from runforrest.errors import InvalidArgument, ProcessError
from runforrest.graph.decorator import undeferred
from runforrest.mapping import ranks
from runforrest.mapping.cache import FOLDER, Cache, Job, Triple, joblist
from runforrest.mapping.failures import MapFailed, named
from runforrest.mapping.files import load_there
from runforrest.mapping.fingerprint import of_function, of_value
from runforrest.mapping.jobs import Failure, Work, do, serve
from runforrest.mapping.lock import make_folder

PROGRESS_SECONDS = 10.0


class Tasker:
    """The ranks that mpirun has started, to map functions over arguments; a program without MPI is one rank.

    method      'MPI'; anything else: this process alone, whatever has started it
    root_works  the root does jobs, too, beside dealing them out
    progress    say every few seconds how many jobs are done
    check       a result counts only for the function and the arguments that it was made of

    Attributes, as in the original: ``comm`` (MPI's communicator, or None), ``rank``, ``size``, ``root``.
    Raises ProcessError if mpirun has started several, and mpi4py does not know about that.
    """

    def __init__(self, method: str = "MPI", *, root_works: bool = True, progress: bool = False,
                 check: bool = True) -> None:
        self.comm: Any = None
        self.rank = self.root = 0
        self.size = 1
        self._function: Callable[..., Any] | None = None
        self._digest = ""
        self._ranks: ranks.Ranks | None = None
        self._method, self._root_works, self._progress, self._check = method, root_works, progress, check
        if method == "MPI":
            self._connect()
        self._prefix = f"Task{self.rank:3d}"

    def _connect(self) -> None:
        try:
            self.comm = ranks.connect()
        except ProcessError:
            raise
        except Exception as error:
            self._say(f"no MPI ({error}): jobs are done one after the other")
            return
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        if self.size > 1:
            self._ranks = ranks.ranks_of(self.comm)

    def isroot(self) -> bool:
        """Whether this is the rank that deals out the jobs, and gets the results."""
        return self.rank == self.root

    def __enter__(self) -> Tasker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Exceptions and `sys.exit` leave the block; if they end this rank, they end the program."""
        if self._ranks is not None and isinstance(error, SystemExit) and error.code not in (None, 0):
            self._ranks.code = error.code if isinstance(error.code, int) else 1

    def __reduce__(self) -> tuple[Any, ...]:
        """A function may close over it: how many ranks there are is no part of the function."""
        return Tasker, (self._method,)

    # -- one job -------------------------------------------------------------------------------

    def make_joblist(self, filename: str | os.PathLike[str],
                     args: Iterable[Any]) -> tuple[list[tuple[int, str, Any]], str]:
        """([(index, file of its result, argument)], the folder of these files, which is made)."""
        filename = _plain(filename)
        make_folder(filename + FOLDER)
        return joblist(filename, args), filename + FOLDER

    def execute(self, job: Sequence[Any]) -> Triple:
        """Do one job of `make_joblist` with the function of the last `map`, or load its result; the triple of it."""
        if self._function is None:
            raise InvalidArgument("there is no function to be called: map installs one", argument="job")
        made = self._job(job)
        cache = Cache(os.path.dirname(made.file).removesuffix(FOLDER), self._say, self._check)
        if cache.missing([made]):
            do(made, self._function, self.rank)
        return made.index, list(made.arguments), cache.result(made)

    def _job(self, job: Sequence[Any]) -> Job:
        index, file, *arguments = job
        record = {"function": self._digest, "arguments": of_value(arguments, f"argument {index}")}
        return Job(index, os.path.abspath(file), tuple(arguments), record)

    def cleanup_files(self, dirname: str, joblist: Iterable[Sequence[Any]]) -> None:
        """Remove the files of these jobs, and the folder; what prevents that is said, and not raised."""
        for _, file, *_ in joblist:
            if os.path.exists(file):
                os.unlink(file)
        Cache(dirname.removesuffix(FOLDER), self._say).remove()

    # -- many ----------------------------------------------------------------------------------

    def map(self, filename: str | os.PathLike[str], fn: Callable[..., Any], args: Iterable[Any]) -> list[Triple] | None:
        """Call the function with each argument, and keep the results in a file.  All ranks must call it.

        filename  where the results will be, in the end; until then each has a file in the folder ``FILE.mpi``
        fn        each rank calls its own: it is not pickled
        args      those of the root count; they, and what the function returns, must be picklable

        Returns [(index, [argument], result)] on the root, and None on the other ranks; if nothing had to be done, as
        the file was there, the list on all ranks.  What was done before, by a program that was interrupted, say, is
        not done again.

        Raises MapFailed on all ranks, after all others are done and kept, if some calls have raised: calling it again
        does only these.  Raises MapInUse if another program is at the same map, and UnpicklableError.
        """
        fn = undeferred(fn)
        self._function, self._digest = fn, of_function(fn)
        filename = _plain(filename)
        if self._ranks is not None:
            self._ranks.maps += 1
            self._ranks.code = 0
        if self.isroot():
            return self._map_as_root(filename, args)
        assert self._ranks is not None
        done, what = serve(fn, self._ranks, self.root)
        if not done:
            raise MapFailed(f"{filename}: {what}", failed={})
        found: list[Triple] | None = load_there(filename) if what else None
        return found

    def _map_as_root(self, filename: str, args: Iterable[Any]) -> list[Triple] | None:
        word: tuple[bool, Any] = False, "the root could not go on; it says why"
        try:
            found, was_there = self._results(Cache(filename, self._say, self._check), args)
            word = True, was_there
            return found
        except MapFailed as error:
            word = False, f"{len(vars(error)['failed'])} jobs have failed; the root says which"
            raise
        finally:
            if self._ranks is not None:
                self._ranks.send_all(ranks.END, self._ranks.maps, *word)

    def _results(self, cache: Cache, args: Iterable[Any]) -> tuple[list[Triple], bool]:
        """(the results, whether they were all there)."""
        whole = cache.whole()
        if whole is not None and (whole.made_of is None or not self._check or not callable(self._function)):
            cache.remove()
            return whole.triples, True
        if not callable(self._function):
            raise InvalidArgument(f"map takes a function, not {self._function!r:.60}", argument="fn")
        jobs = [self._job(job) for job in joblist(cache.filename, args)]
        if whole is not None and len(whole.triples) == len(jobs) and all(map(whole.has, jobs)):
            cache.remove()
            return whole.triples, True
        with cache.lock():
            self._do(cache, jobs, cache.missing(jobs, whole))
            triples = cache.collect(jobs, whole)
            cache.publish(jobs, triples)
            cache.clean()
        cache.remove()
        return triples, False

    def _do(self, cache: Cache, jobs: Sequence[Job], missing: Sequence[Job]) -> None:
        """Do these jobs.  Raises MapFailed."""
        assert self._function is not None
        if not missing:
            return
        meter = _Meter(self._say if self._progress else None, cache.filename, len(jobs) - len(missing), len(jobs))
        work = Work(missing, self._function, self._ranks, meter)
        failures = work.run(own=self._ranks is None or (self._root_works and ranks.thread_may_send()))
        if failures:
            raise _failed(cache, failures, len(jobs))

    def _say(self, text: str) -> None:
        if self.isroot():
            print(f"runforrest: {text}", file=sys.stderr, flush=True)


class _Meter:
    """Says how far a map is, every few seconds and in the end."""

    def __init__(self, say: Callable[[str], None] | None, filename: str, done: int, number: int) -> None:
        self._say, self._filename, self._done, self._number = say, filename, done, number
        self._said = time.monotonic()

    def __call__(self, ended: int, failed: int) -> None:
        ended += self._done
        if self._say and (time.monotonic() - self._said > PROGRESS_SECONDS or ended == self._number):
            self._said = time.monotonic()
            self._say(f"{self._filename}: {ended} of {self._number} jobs{f', {failed} have failed' if failed else ''}")


def _failed(cache: Cache, failures: dict[int, Failure], number: int) -> MapFailed:
    errors = {index: failures[index].exception() for index in sorted(failures)}
    made = MapFailed(f"{len(errors)} of {number} jobs of {cache.filename} failed: {named(errors)}; the others "
                     f"are done, and kept in {cache.folder}: the same map does only what is missing", failed=errors)
    made.__cause__ = next(iter(errors.values()))
    return made


def _plain(filename: str | os.PathLike[str]) -> str:
    """Files are renamed into place: behind a link, into its place there."""
    found = check_path(filename, "filename")
    return os.path.realpath(found) if os.path.islink(found) else found
