"""Every error that runforrest raises, in one place.

One root class.  The message says what happened, to which file or argument, and what to do;
the facts are attributes.  Each class survives pickling, with its attributes.
This module is loaded in every child, so it imports nothing.
"""

from __future__ import annotations


class RunforrestError(Exception):
    """The root of all errors of this library.

    ``message`` is the whole text; further keyword arguments become attributes.
    """

    def __init__(self, message: str = "", **facts: object) -> None:
        super().__init__(message)
        self.__dict__.update(facts)


# -- wrong use ---------------------------------------------------------------------------

class InvalidArgument(RunforrestError, ValueError):
    """An argument that can't be meant: ``nprocesses=0``, a negative timeout."""


class DeferredError(RunforrestError, TypeError):
    """Something was asked of a deferred call that only its value can answer (``len``, ``for``)."""


class GraphError(RunforrestError, ValueError):
    """The deferred calls depend on each other in a circle."""


class UnpicklableError(RunforrestError, TypeError):
    """A task, its result or its exception can't be pickled.

    Attributes: ``path`` (where in the call the offending object is), ``offender`` (its repr).
    """


class TaskFileError(RunforrestError, ValueError):
    """A line of a task file of commands can't be meant, or is not what it was when the batch was begun.

    Attributes: ``file``, ``line`` (its number, from 1).
    """


# -- the folder --------------------------------------------------------------------------

class FolderError(RunforrestError):
    """Something is wrong with the task list's folder.  Attribute: ``directory``."""


class TaskListExists(FolderError, RuntimeError):
    """The folder is there already and ``exist_ok`` was not given (RunForrest's RuntimeError)."""


class NotATaskList(FolderError):
    """The folder is not a task list, or is missing.  Attribute: ``kind``, of what it is instead, or ''."""

    kind = ""


class FormatVersionError(FolderError):
    """The folder was written by a newer runforrest.  Attribute: ``version``."""


class UntrustedFolder(FolderError, PermissionError):
    """Other users may write to the folder, and unpickling what they wrote would run their code."""


class SigningKeyError(FolderError, ValueError):
    """The key file can't be used, or a signed list has another key than the one given, or none was given.

    Attribute: ``key_file``; ``directory`` if it is about a list.
    """


class TaskListInUse(FolderError, RuntimeError):
    """Runners are at work in the folder.  Attribute: ``runners`` (their names)."""


class NoSuchTask(FolderError, LookupError):
    """No task has this name, or several do.  Attribute: ``matches``."""


class ProcessError(RunforrestError, RuntimeError):
    """The runner's own processes could not be started."""


class Stopped(RunforrestError):
    """A run came to its end before its list: its time was over, or somebody asked it to stop.

    Attribute: ``reason`` ('walltime' or 'stopped').
    """


# -- how a task ended, when it was not its own exception: what `task.errorvalue` then is -----

class AttemptError(RunforrestError):
    """An attempt that ended without an exception of its own.  Attribute: ``attempt``."""


class TimedOut(AttemptError, TimeoutError):
    """The task ran longer than its timeout (``autokill``) and was killed."""


class Crashed(AttemptError):
    """The task's process ended without a result: a signal, ``os._exit``, a crash in C code."""


class OutOfMemory(AttemptError, MemoryError):
    """The task was killed for its memory: by its own limit or by the system."""


class Lost(AttemptError):
    """The task's runner died again and again while it held the task."""


class Cancelled(AttemptError):
    """The task was cancelled by a person."""


class DependencyFailed(AttemptError):
    """The task was not run, as one that it waited for (``after``) has failed."""


class CommandFailed(AttemptError):
    """A command ended with an exit code that is not 0, or by a signal.

    Attributes: ``exit_code`` (None if it was a signal), ``signal`` (its number, or None).
    """

    @classmethod
    def of(cls, line: str, code: int) -> CommandFailed:
        """``code``: the exit code, or minus the number of the signal."""
        shown = line if len(line) <= 200 else line[:200] + "…"
        if code < 0:
            return cls(f"killed by signal {-code}: {shown}", exit_code=None, signal=-code)
        return cls(f"exit code {code}{' (no such command)' if code == 127 else ''}: {shown}", exit_code=code,
                   signal=None)


class Unloadable(AttemptError):
    """The task's file can't be read or unpickled: truncated, damaged, or made elsewhere."""


class Untrusted(AttemptError, PermissionError):
    """The task's file, or its result, was not unpickled: others may have written it, or it is not signed."""


class RemoteError(AttemptError):
    """Stands in for an exception that can't be pickled.  Attribute: ``type_name``."""


class RemoteTraceback(Exception):
    """The traceback of the child, as text: the cause of an exception that came back from there."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0]) if self.args else ""
