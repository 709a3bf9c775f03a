"""A hand on a filesystem that breaks one promise: `python lying.py`, with LIES naming the lie."""

import errno
import os
import sys
import time

sys.path.insert(0, os.environ["HAND_FOLDER"])
import hand

true_rename, true_listdir, true_open, true_symlink = os.rename, os.listdir, os.open, os.symlink


def rename_won_twice(source, target):
    """Two clients are both told that they have moved the file, and both find it."""
    try:
        true_rename(source, target)
    except FileNotFoundError:
        hand.write_new(target, os.path.basename(source).encode())


def rename_false(source, target):
    """The loser is told that it has won."""
    try:
        true_rename(source, target)
    except FileNotFoundError:
        pass


def rename_loses(source, target):
    """The file is gone, and everybody gets an error."""
    if "/race/r" in source and source.endswith("0"):
        try:
            os.unlink(source)
        except FileNotFoundError:
            pass
        raise OSError(errno.EIO, "Input/output error")
    true_rename(source, target)


def rename_done_but_failed(source, target):
    true_rename(source, target)
    if "/race/r" in source:
        raise OSError(errno.EIO, "Input/output error")


def rename_hangs(source, target):
    time.sleep(1000 if "/race/r" in source else 0)
    true_rename(source, target)


def publish_torn(path, data):
    """A file that has its name before it has its contents."""
    half = data[:len(data) // 2] if path.endswith(".task") else data
    true_write_new(path, half)


def create_shared(path, flags, mode=0o777):
    """O_EXCL that does not exclude."""
    return true_open(path, flags & ~os.O_EXCL, mode)


def links_shared(text, path):
    """Both are told that they have made the link."""
    try:
        true_symlink(text, path)
    except FileExistsError:
        pass


def links_none(text, path):
    raise PermissionError(errno.EPERM, "Operation not permitted")


def listdir_late(path):
    """A new name is listed half a second after it was made."""
    return [name for name in true_listdir(path) if time.time() - os.lstat(path + "/" + name).st_ctime > 0.5]


true_write_new = hand.write_new
lie = os.environ["LIES"]
if lie.startswith("rename"):
    os.rename = globals()[lie]
elif lie == "publish_torn":
    hand.write_new = publish_torn
elif lie == "create_shared":
    os.open = create_shared
elif lie == "links_shared":
    os.symlink = links_shared
elif lie == "links_none":
    os.symlink = links_none
elif lie == "listdir_late":
    os.listdir = listdir_late
hand.main()
