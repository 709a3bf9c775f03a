"""What a batch was asked for: the options of `runforrest batch`, and the names of its files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from runforrest.errors import InvalidArgument

LOG_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
STDIN = "-"


@dataclass
class BatchOptions:
    """Checked at once: a bad value raises InvalidArgument before anything runs.

    Where tasks come from, exactly one of:

    task_file       path, or '-' for standard input
    task_command    a program that submits them
    task_server     True: another program will connect and submit them

    What is run and recorded:

    exit_code       the exit code is 1 if a task failed
    fail_fast       stop at the first that fails
    resume_from     status files of earlier runs: what has a record there is skipped
    retry           but not what failed
    force_resume    skip by number alone, also where the line has changed
    prefix          of all files, or the folder for them
    status_header   begin the status file with the names of its fields
    log_file        the driver's log, if not PREFIX_driver.log; ``log_level``: the least that is logged
    mail_to, mail_freq  address, and after how many ended tasks a message goes there
    web             a page that shows how the run goes

    Where:

    ssh_nodes       'HOST:CORES' items, comma lists allowed: see `runforrest.engines.ssh.places`
    cpus_per_task   may be a fraction; None: what the batch system says, else 1
    tasks_per_node  slots of each host, whatever its cores are; None: by its cores
    fill            under Slurm: all allocated cores, not only one slot per Slurm task
    env_resources   names of environment variables whose comma-separated values are dealt out to the slots; they may
                    be given with commas between
    gpus            deal out the visible GPUs to the slots
    context_limit   the hosts given here leave after so many tasks; 0: never
    label           of the hosts given here, for names of logs
    retire_command  is run when a host has become idle for good; '': nothing; None: what suits the place
    startup_only    start no host: wait for those that are added with PREFIX_dbUtil.sh
    """

    task_file: str = ""
    task_command: str = ""
    task_server: bool = False
    exit_code: bool = False
    fail_fast: bool = False
    resume_from: list[str] = field(default_factory=list)
    retry: bool = False
    force_resume: bool = False
    prefix: str = "."
    status_header: bool = False
    log_file: str = ""
    log_level: str = "INFO"
    mail_to: str = ""
    mail_freq: int = 0
    web: bool = False
    ssh_nodes: list[str] = field(default_factory=list)
    cpus_per_task: float | None = None
    tasks_per_node: int | None = None
    fill: bool = False
    env_resources: list[str] = field(default_factory=list)
    gpus: bool = False
    context_limit: int = 0
    label: str = ""
    retire_command: str | None = None
    startup_only: bool = False

    def __post_init__(self) -> None:
        self.mail_freq = self.mail_freq or (1 if self.mail_to else 0)
        if self.tasks_per_node in (0, -1):          # disBatch's ways to say: not given
            self.tasks_per_node = None
        self.env_resources = [name for text in self.env_resources for name in text.split(",") if name]
        self._check_run()
        self._check_place()

    def _check_run(self) -> None:
        if bool(self.task_file) + bool(self.task_command) + bool(self.task_server) != 1:
            raise InvalidArgument("give a task file, or '-' for standard input, or --taskcommand, or --taskserver: "
                                  "exactly one of them", argument="task_file")
        if self.log_level not in LOG_LEVELS:
            raise InvalidArgument(f"--loglevel must be one of {', '.join(LOG_LEVELS)}, not {self.log_level!r}",
                                  argument="log_level")
        if not self.prefix or "\0" in self.prefix:
            raise InvalidArgument("--prefix must be a path", argument="prefix")
        _check_whole("--mailFreq", "mail_freq", self.mail_freq, 0)
        if self.mail_freq and not self.mail_to:
            raise InvalidArgument("--mailFreq needs --mailTo", argument="mail_freq")
        if self.mail_to and ("@" not in self.mail_to or any(c.isspace() for c in self.mail_to)):
            raise InvalidArgument(f"--mailTo must be an address, or several with commas between, not "
                                  f"{self.mail_to!r}", argument="mail_to")

    def _check_place(self) -> None:
        cores = self.cpus_per_task
        if cores is not None and (isinstance(cores, bool) or not isinstance(cores, (int, float))
                                  or not 0 < cores < math.inf):
            raise InvalidArgument(f"-c/--cpusPerTask must be a positive number, not {cores!r}",
                                  argument="cpus_per_task")
        if self.tasks_per_node is not None:
            _check_whole("-t/--tasksPerNode", "tasks_per_node", self.tasks_per_node, 1)
        _check_whole("-C/--context-task-limit", "context_limit", self.context_limit, 0)
        for name in self.env_resources:
            if "=" in name or "\0" in name:
                raise InvalidArgument(f"-E must name an environment variable, not {name!r}", argument="env_resources")
        if "/" in self.label or "\0" in self.label:
            raise InvalidArgument(f"-l/--label becomes part of file names: no '/' in it, but {self.label!r} has",
                                  argument="label")
        given = [name for name, value in (("-s", self.ssh_nodes), ("-E", self.env_resources),
                                          ("--retire-cmd", self.retire_command)) if value]
        if self.startup_only and given:
            raise InvalidArgument(f"-S starts no host, so {given[0]} must be given to PREFIX_dbUtil.sh instead",
                                  argument="startup_only")

    @property
    def task_name(self) -> str:
        """DISBATCH_NAMETASKS, and the beginning of the names of the batch's files."""
        if self.task_file == STDIN:
            return "stdin"
        return os.path.basename(self.task_file) or "STREAM"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> BatchOptions:
        """What `to_json` gave; options that this version does not know are ignored.  Raises InvalidArgument."""
        return cls(**{key: value for key, value in found.items() if key in cls.__dataclass_fields__})


def _check_whole(option: str, argument: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(f"{option} must be a whole number, {least} or more, not {value!r}", argument=argument)


# -- files -------------------------------------------------------------------------------


def make_prefix(given: str, name: str, when: datetime, number: int) -> str:
    """The absolute prefix of a batch's files: what was given, or a name of its own in the folder that was given.

    name    of the task file; ``when``: local time; ``number``: 0 to 999, so that two of one second differ

    Raises InvalidArgument if the folder is missing.
    """
    path = os.path.realpath(given)
    if os.path.isdir(path):
        return os.path.join(path, f"{name}_disBatch_{when:%y%m%d%H%M%S}_{number:03d}")
    folder = os.path.dirname(path)
    if given.endswith("/") or not os.path.isdir(folder):
        raise InvalidArgument(f"-p/--prefix: there is no folder {path if given.endswith('/') else folder}; make it "
                              "first", argument="prefix")
    return path


@dataclass(frozen=True)
class Files:
    """The names of a batch's files, which all begin with its prefix."""

    prefix: str

    @property
    def job(self) -> str:
        """DISBATCH_JOBID."""
        return os.path.basename(self.prefix)

    @property
    def status(self) -> str:
        return f"{self.prefix}_status.txt"

    @property
    def driver_log(self) -> str:
        return f"{self.prefix}_driver.log"

    @property
    def add_hosts(self) -> str:
        """The script that adds hosts to the run."""
        return f"{self.prefix}_dbUtil.sh"

    @property
    def task_list(self) -> str:
        return f"{self.prefix}_tasklist"
