"""The file operations that keys need beside those of a task list."""

from __future__ import annotations

import errno
import os

from runforrest.folder.fsio import FOLDER, FileOps

NO_WRITING = (errno.EROFS, errno.EACCES, errno.EPERM)
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)      # of a filesystem that has none


class KeyFiles(FileOps):
    """`FileOps`, and times, and symbolic links whose text is all that there is to them."""

    def ensure_folder(self, name: str) -> None:
        """Make a folder, if it is not there."""
        try:
            self.mkdir(name)
        except FileExistsError:
            pass

    def symlink(self, text: str, name: str) -> None:
        """Make a symbolic link, which must not exist: a name with a text, made in one step."""
        self.before("symlink", text, name)
        os.symlink(text, self.path(name))
        self.after("symlink", text, name)

    def readlink(self, name: str) -> str | None:
        """The text of a symbolic link; None if it is not there.

        Its folder is opened first: a name that was looked for in vain may else stay absent for an NFS client.
        """
        self.before("readlink", name)
        path = self.path(name)
        try:
            os.close(os.open(os.path.dirname(path), FOLDER))
            return os.readlink(path)
        except (FileNotFoundError, NotADirectoryError):
            self.check_there()
            return None

    def touch(self, name: str) -> None:
        """Set the time of a file to now, by the clock of the filesystem."""
        self.before("utime", name)
        os.utime(self.path(name), follow_symlinks=False)
        self.after("utime", name)

    def modified(self, name: str) -> int:
        """When a file was last touched, in nanoseconds, as the server has it: opening it makes an NFS client ask."""
        fd = self.open_read(name)
        try:
            return os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)
