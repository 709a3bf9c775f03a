"""Where things are in a task list.  Names are relative to its root; loaded in every child."""

from __future__ import annotations

from runforrest.model.names import SUFFIX

TODO, DOING, DONE, FAIL = "todo", "doing", "done", "fail"
STATES = (TODO, DOING, DONE, FAIL)
WAITING = "waiting"                #: tasks that wait for others, by gate; made when there is one
EVERYWHERE = (WAITING, *STATES)    #: in the order in which tasks move
NESTED = (WAITING, DOING)          #: of these, those in which tasks are one folder further down

SETTINGS = "runforrest.json"
HISTORY = "history.jsonl"
SESSION = "session.pkl"
BEGUN = "batch.begun"              #: who makes the list of a batch, until it is made
BATCH = "batch.json"               #: what a task file is to be run with
LINES = "batch.lines"              #: lines that come from a program
LINES_END = "batch.lines.end"      #: there will be no more
LINES_LOCK = ".batch.lines.lock"   #: of who adds some to those that others add
KEYS = "batch.keys"                #: barriers that were passed and have a key: a line of JSON each
RESULT = "batch.result"            #: what has become of it, when it has come to its end
FED = "batch.fed"                  #: all lines were read: nothing new will come into todo/
FAIL_FAST = "batch.fail-fast"      #: a failure ends it: who has seen one claims nothing, as long as this is there
ENGINES = "batch.engines"          #: records of what engines ran for themselves, until the status file has them
OF_BATCH = (BEGUN, BATCH, LINES, LINES_END, LINES_LOCK, KEYS, RESULT, FED, FAIL_FAST)
LOCK = ".runforrest.lock"

INTERNAL = ".runforrest"
TMP = INTERNAL + "/tmp"            #: the only place of half-written files, and of the slots' output
HB = INTERNAL + "/hb"              #: heartbeats
TRIES = INTERNAL + "/tries"        #: results of tasks that were taken over
DUP = INTERNAL + "/dup"            #: late results of fenced runners
JOURNAL = INTERNAL + "/journal"    #: one file per runner, one line per ended attempt
REQUESTS = INTERNAL + "/requests"  #: what people ask of runners
TOKENS = INTERNAL + "/tokens"      #: tokens of the whole list, a folder for each
FEEDER = INTERNAL + "/feeder"      #: who feeds a batch
SCHEDULING = INTERNAL + "/scheduling"  #: a list that is being filled for the first time
GATES = INTERNAL + "/gates"        #: what each gate waits for: see `runforrest.folder.gates`
AFTER = INTERNAL + "/after"        #: the gates that wait for a task
SETS = INTERNAL + "/sets"          #: the tasks that a gate stands for, one id a line
GROUPS = INTERNAL + "/groups"      #: the tasks of each group

LOG, ERRORS_LOG = ".log", ".errors.log"    #: the output of an attempt, kept beside its task; a command's standard error

INTERNALS = (TMP, HB, TRIES, DUP, JOURNAL, REQUESTS)
GATED = (GATES, AFTER, SETS, GROUPS)       #: made when the first task waits


def task_of_log(file: str) -> str:
    """The file of the task beside which this output of an attempt is kept; '' if it is no such file."""
    for kind in (ERRORS_LOG, LOG):
        if file.endswith(kind):
            return file.removesuffix(kind) + SUFFIX
    return ""


def output_file(runner: str, slot: int, kind: str = LOG) -> str:
    """Where the child in this slot writes what it prints; of a command, only what goes to standard output."""
    return f"{TMP}/{runner}.slot{slot}{kind}"
