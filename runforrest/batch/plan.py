"""What a batch is: kept in the list, so that whoever feeds it knows it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from runforrest.batch.options import BatchOptions, Files
from runforrest.errors import NotATaskList
from runforrest.folder import layout
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.model.names import make_id


@dataclass
class Plan:
    """One batch.

    file      the task file, as an absolute path, of which the list has a copy; '' for lines that a program adds to that
    name      its name for the tasks (DISBATCH_NAMETASKS)
    prefix    what its files begin with, as an absolute path
    start     when it was made, in microseconds since 1970; with ``tag`` the ids of its tasks
    cwd       the folder in which its tasks run
    reader    who adds to the spool: a member of the list
    kept      where the status file is from which this run resumes, if it had the same prefix
    log_file  the driver's log
    limits    of each task, as JSON
    per_engine  commands that each engine runs before its first task, and after its last
    """

    file: str
    name: str
    prefix: str
    options: BatchOptions
    cwd: str
    log_file: str
    limits: dict[str, Any] = field(default_factory=dict)
    per_engine: list[dict[str, Any]] = field(default_factory=list)
    reader: str = ""
    kept: str = ""
    start: int = field(default_factory=lambda: time.time_ns() // 1000)
    tag: str = field(default_factory=new_tag)

    @property
    def files(self) -> Files:
        return Files(self.prefix)

    @property
    def job(self) -> str:
        return self.files.job

    @property
    def status_file(self) -> str:
        return self.files.status

    def id_of(self, task: int) -> str:
        """The id of this task, whoever publishes it."""
        second, micros = divmod(self.start + task, 1_000_000)
        return make_id(0, f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(second))}{micros:06d}", self.tag, str(task))

    def write(self, fs: FileOps) -> None:
        tmp = f"{layout.TMP}/{layout.BATCH}.{new_tag()}"
        fs.create(tmp, [json.dumps({**asdict(self), "options": self.options.to_json()}, indent=1).encode()], force=True)
        fs.rename(tmp, layout.BATCH)

    @classmethod
    def read(cls, fs: FileOps) -> Plan:
        """Raises NotATaskList if the list is not that of a batch."""
        try:
            found: dict[str, Any] = json.loads(fs.read(layout.BATCH))
            return cls(**{**found, "options": BatchOptions.from_json(found["options"])})
        except FileNotFoundError:
            raise NotATaskList(f"{fs.root} is not the list of a batch: it has no {layout.BATCH}",
                               directory=fs.root) from None
        except (ValueError, TypeError, KeyError) as error:
            raise NotATaskList(f"{fs.path(layout.BATCH)} is damaged: {error}", directory=fs.root) from None
