"""The exit codes of all commands; scripts rely on them, so they stay.

====  ===========================================================================================
code  meaning
====  ===========================================================================================
0     it did what was asked; for `run`: every task that it ran is done
1     `run`: a task that it ran failed; `clean`: nothing was removed; `doctor`: not usable, not all mended
2     wrong use or bad input: nothing was done
3     trouble while at work: the runner was declared lost, its processes or the folder failed
4     `run` left before the list was done: its time was over (or SIGUSR1), `stop` was asked, or what is left needs more
      cores, GPUs, memory or tokens than it has, or waits for tasks that are gone
130   `run` left after Ctrl-C: running tasks were finished, or put back after the second one
143   `run` left after SIGTERM (or SIGHUP): running tasks were ended and put back
====  ===========================================================================================

`python -m runforrest IN OUT` has RunForrest's: 0 the task returned; 255 it raised; 1 it raised and ``-r``
was given, or the task or the session could not be read; 2 wrong use.
"""

OK = 0
FAILED = 1
USAGE = 2
TROUBLE = 3
NOT_DONE = 4
INTERRUPTED = 130
TERMINATED = 143

#: debugging one task
RAISED = 255
BROKEN = 1

#: why `Runner.run` came back; 'done' is OK or FAILED
BY_REASON = {"drained": INTERRUPTED, "released": INTERRUPTED, "terminated": TERMINATED, "fenced": TROUBLE,
             "stopped": NOT_DONE, "walltime": NOT_DONE, "unfit": NOT_DONE,
             "stuck": NOT_DONE}
