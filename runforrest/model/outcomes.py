"""How an attempt can end: a closed set, stored as text in every attempt's record.

This module is loaded in every child, so it imports nothing.
"""

from __future__ import annotations

RETURNED = "returned"            #: the call returned a value, which is kept
RAISED = "raised"                #: the call raised, or what it returned could not be pickled
TIMED_OUT = "timed_out"          #: killed for running longer than its timeout
CRASHED = "crashed"              #: the process ended without a result: signal, os._exit, C code
OUT_OF_MEMORY = "out_of_memory"  #: killed for its memory, or MemoryError
LOST = "lost"                    #: its runner died
CANCELLED = "cancelled"          #: a person ended it
UNLOADABLE = "unloadable"        #: the file can't be read or unpickled here
REFUSED = "refused"              #: not unpickled: others may have written the file, or it is not signed
DEPENDENCY_FAILED = "dependency_failed"    #: never run: a task that it waited for has failed

OUTCOMES = (RETURNED, RAISED, TIMED_OUT, CRASHED, OUT_OF_MEMORY, LOST, CANCELLED, UNLOADABLE, REFUSED,
            DEPENDENCY_FAILED)

#: outcomes that spend ``retries``, and those that spend ``crash_limit``
RETRIED = (RAISED, TIMED_OUT)
CRASHES = (CRASHED, OUT_OF_MEMORY, LOST)
