"""Looking at a task list: pure reading, nobody's code is unpickled and nothing is written."""

from runforrest.status.snapshot import RunnerState, Snapshot, snapshot
from runforrest.status.tasks import Description, Held, Place, Row, describe, find, finder, list_tasks, places

__all__ = ["Description", "Held", "Place", "Row", "RunnerState", "Snapshot", "describe", "find", "finder",
           "list_tasks", "places", "snapshot"]
