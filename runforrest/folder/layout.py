"""Where things are in a task list.  Names are relative to its root; loaded in every child."""

from __future__ import annotations

TODO, DOING, DONE, FAIL = "todo", "doing", "done", "fail"
STATES = (TODO, DOING, DONE, FAIL)

SETTINGS = "runforrest.json"
HISTORY = "history.jsonl"
SESSION = "session.pkl"
LOCK = ".runforrest.lock"

INTERNAL = ".runforrest"
TMP = INTERNAL + "/tmp"            #: the only place of half-written files, and of the slots' output
HB = INTERNAL + "/hb"              #: heartbeats
TRIES = INTERNAL + "/tries"        #: results of tasks that were taken over
DUP = INTERNAL + "/dup"            #: late results of fenced runners
JOURNAL = INTERNAL + "/journal"    #: one file per runner, one line per ended attempt
REQUESTS = INTERNAL + "/requests"  #: what people ask of runners
SCHEDULING = INTERNAL + "/scheduling"  #: a list that is being filled for the first time

INTERNALS = (TMP, HB, TRIES, DUP, JOURNAL, REQUESTS)


def output_file(runner: str, slot: int) -> str:
    """Where the child in this slot writes what it prints."""
    return f"{TMP}/{runner}.slot{slot}.log"
