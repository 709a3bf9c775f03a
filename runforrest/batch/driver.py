"""What `runforrest batch` does besides: starts engines, waits for the feeder's end, and tells what came of it.

Nothing depends on it: when it is killed, the runners go on.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from runforrest.batch import per_engine, ranks
from runforrest.batch.feeder import LABEL as FEEDER
from runforrest.batch.feeder import Feeder
from runforrest.batch.options import BatchOptions
from runforrest.batch.plan import Plan
from runforrest.batch.spool import Member
from runforrest.batch.statusfile import StatusFile
from runforrest.engines import Ended, Engine, Retirement, Start, local, slurm, ssh, starts
from runforrest.engines.places import log_file
from runforrest.errors import RunforrestError
from runforrest.folder import identity, journal, layout, requests
from runforrest.folder.leases import Membership
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.model import outcomes
from runforrest.model.names import Name
from runforrest.runner.capacity import usable_cpus

POLL_SECONDS = 0.05
LEAVE_SECONDS, LEAVE_STEP = 5.0, 0.01      # for runners to see that the list is done


@dataclass
class Outcome:
    """How a batch ended.

    done       it has come to its end
    succeeded, failed, skipped
               numbers of tasks
    stopped    why the rest of the task file was not run; '' if all was
    problem    why it has not come to its end; ``wrong``: because of what was given to it
    """

    done: bool = False
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    stopped: str = ""
    problem: str = ""
    wrong: bool = False


def engine_for(plan: Plan, options: BatchOptions, take_ranks: Callable[[int], int],
               say: Callable[[str], None]) -> Engine:
    """The runners of one context: by ssh, in a Slurm job, or on this host; none is started yet.

    take_ranks  is called with their number, and returns the rank of the first
    Raises InvalidArgument, ProcessError.
    """
    directory, label, arguments = plan.files.task_list, options.label, runner_arguments(options, say)
    cores, slots = options.cpus_per_task, options.tasks_per_node
    nodes = options.ssh_nodes
    job = None if nodes else slurm.allocation()
    if job is not None:
        places = job.places(cores, slots, options.fill, say)
        runners = limited(starts(places, directory, plan.prefix, label or f"J{job.job}", arguments,
                                 first_rank=take_ranks(len(places)), cwd=plan.cwd), options.context_limit)
        places = places[:len(runners)]
        runners = leaving(runners)
        return slurm.engine(runners, places, slurm.retirement(job, runners, options.retire_command, say))
    nodes = nodes or [text for text in [os.environ.get("DISBATCH_SSH_NODELIST", "")] if text] \
        or [f"localhost:{len(usable_cpus())}"]
    places = ssh.places(nodes, cores, slots, say)
    first = take_ranks(len(places))
    runners = limited(starts(places, directory, plan.prefix, label or f"SSH{first}", arguments, first_rank=first,
                             cwd=plan.cwd), options.context_limit)
    retirement = Retirement(options.retire_command, [place.node for place in places], warn=say) \
        if options.retire_command else None
    return ssh.engine(leaving(runners) if retirement else runners, retirement)


def limited(runners: list[Start], most: int) -> list[Start]:
    """The same, which leave when they have begun so many tasks together; 0: never."""
    if not most:
        return runners
    share, more = divmod(most, len(runners))
    counts = [share + (number < more) for number in range(len(runners))]
    return [replace(start, arguments=[*start.arguments, "--most-tasks", str(count)])
            for start, count in zip(runners, counts, strict=True) if count]


def leaving(runners: list[Start]) -> list[Start]:
    """The same, of which all but the first leave when nothing is left to be begun, so that hosts can be given back."""
    return [*runners[:1], *(start.leaving_early() for start in runners[1:])]


def runner_arguments(options: BatchOptions, say: Callable[[str], None]) -> list[str]:
    """Options of `runforrest run` for the runners of a batch."""
    found = ["--quiet"]
    if options.cpus_per_task is not None:
        found += ["--cores-per-slot", str(options.cpus_per_task)]
    for variable in [name for text in options.env_resources for name in text.split(",") if name]:
        if os.environ.get(variable):
            found += ["--split", variable]
        else:
            say(f"-E {variable}: it is not set, so there is nothing to deal out")
    if options.gpus:
        found.append("--split-gpus")
    return found


class Driver:
    """Watches one batch.

    helps  it has only added hosts: when it is to stop, the others go on
    """

    def __init__(self, folder: TaskFolder, plan: Plan, say: Callable[[str], None], helps: bool = False) -> None:
        self.folder, self.plan, self.say, self.helps = folder, plan, say, helps
        self.engines: list[Engine] = []
        self.failed_at_end = 0              # commands that engines ran when they left
        self.stopped = False
        self._last = False                  # the last runner was started

    def take_ranks(self, count: int) -> int:
        """The first of so many ranks that no runner of this batch has had, one after another."""
        return ranks.take(self.folder.fs, count)

    def add(self, engine: Engine) -> None:
        """Start these runners."""
        engine.start()
        self.engines.append(engine)

    @property
    def running(self) -> int:
        return sum(len(engine.running) for engine in self.engines)

    def poll(self) -> list[Ended]:
        """Runners that have ended since the last call; those that failed are told."""
        ended = [each for engine in self.engines for each in engine.poll()]
        for each in ended:
            if each.failed:
                self.say(str(each))
        return ended

    def stop(self, now: bool) -> None:
        self.stopped = True
        for engine in self.engines:
            engine.stop(now)
        if not self.helps:
            for runner in Membership(self.folder).alive():      # those of our engines, too, which are told twice
                if runner != self.plan.reader:
                    requests.ask(self.folder.fs, requests.STOP_NOW if now else requests.STOP, runner)

    def feeder(self) -> tuple[str, Name] | None:
        """(state, name) of the feeder's task when it has come to its end."""
        for state in (layout.DONE, layout.FAIL):
            for name in self.folder.scan(state):
                if name.demanding and name.label == FEEDER:
                    return state, name
        return None

    def how_to_go_on(self) -> str:
        """What may be done with a batch that has come to its end; '' if it has not."""
        found = self.feeder()
        if found is None:
            return ""
        state, name = found
        if state == layout.DONE:
            return f"that batch is done, and `-r {shlex.quote(self.plan.status_file)}` resumes from it"
        root = shlex.quote(self.folder.fs.root)
        return f"that batch has failed; `-r {shlex.quote(self.plan.status_file)}` resumes from it, also with another " \
               f"task file; or, if the cause is gone, `runforrest retry {root} {name.id}` and " \
               f"`runforrest run {root}` go on with it"

    def is_over(self) -> bool:
        """It has come to its end, and all runners have left."""
        return self.feeder() is not None and not Membership(self.folder).peers()

    def wait(self, *ticks: Callable[[], None], alone: bool = True, again: bool = False) -> Outcome:
        """Wait for the batch's end, or until nobody is left who could work on it.

        ticks  called many times a second
        alone  False: others may add runners, so wait for them
        again  start a runner once more when all have ended before the batch has: tasks of one that died came back
        """
        while True:
            self.poll()
            for tick in ticks:
                tick()
            if not self._may_be_done():
                time.sleep(POLL_SECONDS)
                continue
            found = self.feeder()
            if found is not None:
                return self._outcome(*found)
            if not self.running and ((again and self._start_again()) or self._start_last()):
                continue
            if (alone or self.stopped) and not self.running:
                self._note_ends()
                return Outcome(problem=("" if self.stopped else "no runner is left, and ") +
                               "the batch is not done: the rest is in its task list, and `runforrest run "
                               f"{shlex.quote(self.folder.fs.root)}` goes on with it")
            time.sleep(POLL_SECONDS)

    def _is_left_alone(self) -> bool:
        """Whether there is no runner any more, also none of others."""
        return not Membership(self.folder).peers().keys() - {self.plan.reader}

    def _start_last(self) -> bool:
        """All have left, as they have run as many tasks as they may, and all were run: one records the last ends."""
        left = itertools.islice(self.folder.scan(layout.TODO), 2)
        if (self.stopped or self._last or not self.folder.fs.exists(layout.FED) or not self._is_left_alone()
                or [name.label for name in left] != [FEEDER]):
            return False
        self._last = True
        rank = len(self.engines)
        log = log_file(self.plan.prefix, "last", identity.hostname(), rank)
        self.add(local.engine([Start(self.folder.fs.root, 1, rank, log, arguments=["--quiet"], cwd=self.plan.cwd)]))
        return True

    def feed_head(self) -> None:
        """Feed the first lines of a batch that has just been made, while its runners start.

        What keeps it from that the feeder will find, too, and tell.
        """
        if self.plan.file and not (self.plan.options.resume_from or self.plan.options.mail_to):
            with suppress(OSError, RunforrestError):
                self._stand_in(Feeder.feed_head)

    def _note_ends(self) -> None:
        """Nobody is left who could: have the status file tell what has ended, so that it can be resumed from."""
        if not self._is_left_alone():
            return
        try:
            self._stand_in(Feeder.note_ends)
        except (OSError, RunforrestError) as error:
            self.say(f"{self.plan.status_file} may miss what has ended last: {error}")
        finally:
            journal.tidy(self.folder.fs)

    def _stand_in(self, act: Callable[[Feeder], None]) -> None:
        """Claim the feeder's task, do this, and put it back; nothing, if somebody else has it."""
        mine = next((name for name in self.folder.scan(layout.TODO) if name.demanding and name.label == FEEDER), None)
        if mine is None:
            return
        member = Member(self.folder)
        member.start()
        runner = member.membership.runner
        try:
            claim = self.folder.claim(mine, runner)
            if claim is not None:
                try:
                    act(Feeder(self.folder, runner, claim.id))
                finally:
                    self.folder.release(claim, runner)
        finally:
            member.leave()

    def _start_again(self) -> bool:
        started = None if self.stopped else next(filter(None, (engine.start_again() for engine in self.engines)), None)
        if started is None:
            return False
        self.say(f"all runners have ended, and the batch is not done: runner {started.rank} on {started.node} is "
                 "started again")
        return True

    def _may_be_done(self) -> bool:
        """Looking for the feeder costs a listing: it is gone from where it was, or nobody is there any more."""
        if any(name.label == FEEDER for names in self.folder.claims().values() for name in names):
            return not self.running and (bool(self.engines) or self.stopped)    # else it is others who work
        return True

    def _outcome(self, state: str, name: Name) -> Outcome:
        if state == layout.FAIL:
            task = StoredTask.open(self.folder.fs, f"{state}/{name}", name)
            result = task.result() or {}
            why = str(result.get("message") or result.get("outcome") or "the feeder failed")
            return Outcome(problem=f"{why}\n{self.how_to_go_on()}", wrong=result.get("outcome") == outcomes.RAISED)
        return Outcome(True, **json.loads(self.folder.fs.read(layout.RESULT)))

    def see_off(self, tick: Callable[[], None]) -> None:
        """The list is done: wait until the runners have left by themselves.

        It takes as long as what they have to run at their end; if that is nothing, some seconds at most.
        """
        stops = any(each["when"] == per_engine.STOP for each in self.plan.per_engine)
        deadline = math.inf if stops else time.monotonic() + LEAVE_SECONDS
        self.poll()
        while self.running and time.monotonic() < deadline:
            time.sleep(LEAVE_STEP)          # looks at no file
            tick()
            self.poll()

    def close(self) -> None:
        """Have the runners leave that have not; record what they ran for themselves at the end."""
        for engine in self.engines:
            engine.close()
        if self.plan.per_engine and self.feeder() is not None:      # until then, the feeder alone writes to it
            with journal.locked(self.folder.fs) as got:             # who has added hosts comes here as well
                if got:
                    self._record_ends()

    def _record_ends(self) -> None:
        with StatusFile(self.plan.status_file) as status:
            for record in per_engine.collect(self.folder.fs):
                status.write(record)
                self.failed_at_end += record.code != 0
