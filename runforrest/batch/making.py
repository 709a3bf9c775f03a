"""The folder of a batch's list while it is being made: who makes it, and what one leaves who is killed meanwhile.

Before there is a plan, that is nothing that anybody could want.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import Any

from runforrest.batch import feeder
from runforrest.batch.options import Files
from runforrest.batch.resume import put_back
from runforrest.folder import identity, layout
from runforrest.folder.attempts import new_tag
from runforrest.folder.fsio import FileOps
from runforrest.model.names import Name

MADE = {layout.BEGUN, layout.SETTINGS, layout.LOCK, layout.LINES, layout.LINES_END, layout.FAIL_FAST, layout.INTERNAL,
        *layout.STATES}


def make(root: str, kept: str) -> None:
    """Make the folder, with a mark that says who did, and where the old status file is kept ('': none).

    It has the mark when it gets its name, and of two that make one only one gets further.
    Raises FileExistsError if there is something of this name, OSError if it can't be made.
    """
    new = f"{root}.{new_tag()}"
    os.mkdir(new, 0o700)
    try:
        who = identity.identity(local=identity.is_local(new))
        FileOps(new).create(layout.BEGUN, [json.dumps({**who, "kept": kept}).encode()])
        os.rename(new, root)                    # not to where anything is but an empty folder
    except OSError as error:
        shutil.rmtree(new)
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), root) from None
        raise


def made(fs: FileOps) -> None:
    """The list is made."""
    fs.unlink(layout.BEGUN)


def is_left(root: str) -> bool:
    """Whether nothing is in this folder but what somebody has begun to make who is dead."""
    fs = FileOps(root)
    if os.path.islink(root) or not os.path.isdir(root):
        return False
    return bool(_dead(fs, layout.BEGUN)) and _is_bare(fs)


def remove(files: Files) -> None:
    """Remove such a folder, and put the status file back that the run would have resumed; to be called if `is_left`.

    Raises OSError, also if somebody has been quicker.
    """
    fs = FileOps(files.task_list)
    mine = f"{layout.BEGUN}.{new_tag()}"
    fs.rename(layout.BEGUN, mine)               # of two that remove it, one gets further
    dead = _dead(fs, mine)
    if not dead:                                # by now it is another list, which is being made
        fs.rename(mine, layout.BEGUN)
        raise FileExistsError(errno.EEXIST, "somebody else is beginning a batch", fs.root)
    put_back(dead["kept"], files.status)
    shutil.rmtree(fs.root)


def _dead(fs: FileOps, mark: str) -> dict[str, Any]:
    """Who has left this mark, if that is a process which is dead for sure; else {}."""
    try:
        found: dict[str, Any] = json.loads(fs.read(mark))
        return found if identity.verdict(found, identity.is_local(fs.root)) == "dead" else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_bare(fs: FileOps) -> bool:
    """No plan, no task but the feeder's, nobody at work, nothing of anybody else."""
    tasks = [Name.parse(entry) for entry in fs.entries(layout.TODO)]
    internal = {name.rpartition("/")[2] for name in layout.INTERNALS}
    return (set(fs.entries(".")) <= MADE and set(fs.entries(layout.INTERNAL)) <= internal
            and all(name and name.demanding and name.label == feeder.LABEL for name in tasks)
            and not any(fs.entries(name) for name in (*layout.STATES, *layout.INTERNALS)
                        if name not in (layout.TODO, layout.TMP)))
