"""Options of a batch, and the names of its files."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runforrest.batch.options import BatchOptions, Files, make_prefix
from runforrest.errors import InvalidArgument

WHEN = datetime(2026, 11, 22, 4, 50, 17)


def test_nothing_but_a_task_file() -> None:
    options = BatchOptions("jobs/my Tasks.txt")
    assert options.task_name == "my Tasks.txt" and options.mail_freq == 0 and options.tasks_per_node is None
    assert BatchOptions("-").task_name == "stdin"
    assert BatchOptions(task_command="x").task_name == BatchOptions(task_server=True).task_name == "STREAM"


@pytest.mark.parametrize(("given", "argument"), [
    ({"task_file": ""}, "task_file"), ({"task_command": "x"}, "task_file"), ({"task_server": True}, "task_file"),
    ({"mail_freq": 3}, "mail_freq"), ({"mail_to": "me@x", "mail_freq": -1}, "mail_freq"),
    ({"mail_to": "me"}, "mail_to"),
    ({"mail_to": "a@x\nBcc: b@y"}, "mail_to"), ({"mail_to": "a@x", "mail_freq": 1.5}, "mail_freq"),
    ({"log_level": "info"}, "log_level"), ({"prefix": ""}, "prefix"), ({"prefix": "a\0"}, "prefix"),
    ({"cpus_per_task": 0}, "cpus_per_task"), ({"cpus_per_task": -1.0}, "cpus_per_task"),
    ({"cpus_per_task": float("nan")}, "cpus_per_task"), ({"cpus_per_task": float("inf")}, "cpus_per_task"),
    ({"cpus_per_task": "2"}, "cpus_per_task"), ({"tasks_per_node": -2}, "tasks_per_node"),
    ({"tasks_per_node": 1.5}, "tasks_per_node"), ({"context_limit": -1}, "context_limit"), ({"label": "a/b"}, "label"),
    ({"env_resources": ["A=b"]}, "env_resources"),
    ({"startup_only": True, "ssh_nodes": ["a:1"]}, "startup_only"),
    ({"startup_only": True, "env_resources": ["A"]}, "startup_only"),
    ({"startup_only": True, "retire_command": "x"}, "startup_only"),
])
def test_what_can_not_be_meant(given: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidArgument) as info:
        BatchOptions(**{"task_file": "Tasks", **given})
    assert vars(info.value) == {"argument": argument}


def test_what_disbatch_takes_for_not_given() -> None:
    assert [BatchOptions("T", tasks_per_node=n).tasks_per_node for n in (0, -1)] == [None, None]
    assert BatchOptions("T", mail_freq=0).mail_freq == 0 and BatchOptions("T", mail_to="a@b").mail_freq == 1
    assert BatchOptions("T", env_resources=["A,B", "C"]).env_resources == ["A", "B", "C"]
    assert BatchOptions("T", startup_only=True, retire_command="").retire_command == ""


def test_json() -> None:
    options = BatchOptions("T", resume_from=["a", "b"], cpus_per_task=0.5, tasks_per_node=3, mail_to="me@x",
                           mail_freq=5, env_resources=["A", "B"], ssh_nodes=["a:1,b:2"], retire_command="", label="l",
                           gpus=True)
    found = json.loads(json.dumps(options.to_json()))
    assert BatchOptions.from_json(found) == options
    assert BatchOptions.from_json({**found, "of a later version": 1}) == options


# -- files -------------------------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    prefix = make_prefix(str(root), "Tasks", WHEN, 7)
    assert prefix == f"{root}/Tasks_disBatch_261122045017_007"
    files = Files(prefix)
    assert files.job == "Tasks_disBatch_261122045017_007"
    names = (files.status, files.driver_log, files.add_hosts, files.task_list)
    assert list(names) == [prefix + end for end in ("_status.txt", "_driver.log", "_dbUtil.sh", "_tasklist")]
    assert make_prefix(f"{root}/", "T", WHEN, 0) == f"{root}/T_disBatch_261122045017_000"
    assert make_prefix(f"{root}/run 1", "T", WHEN, 0) == f"{root}/run 1"


@pytest.mark.parametrize("given", ["nodir/x", "nodir/", "nodir/x/"])
def test_a_folder_that_is_missing(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"there is no folder .*/nodir"):
        make_prefix(f"{tmp_path}/{given}", "T", WHEN, 0)
