"""Where a slot's tasks write what they print: a file, so that no pipe can fill up and block.

The file belongs to the slot.  It is emptied and used again when the output went into the attempt's
record, and given away to the attempt when there was too much for that.  Loaded in every child.
"""

from __future__ import annotations

import errno
import os

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.model.names import Name

#: output up to this many bytes goes into the record whole, of more only the end
KEEP = 32768
TAIL = 4096


class Output:
    """An output file of one slot.

    kind         layout.LOG, or layout.ERRORS_LOG for the standard error of commands
    descriptors  which of this process's, and of its children's, `open` makes go there; () for a new one, ``fd``
    """

    def __init__(self, fs: FileOps, runner: str, slot: int, kind: str = layout.LOG,
                 descriptors: tuple[int, ...] = (1, 2)) -> None:
        self.fs, self.kind, self.descriptors = fs, kind, descriptors
        self.name = layout.output_file(runner, slot, kind)
        self.fd = descriptors[0] if descriptors else -1
        self._inode = (-1, -1)

    def open(self) -> None:
        """Open the file, made anew if it was given away or is gone."""
        fd = self._open_file()
        info = os.fstat(fd)
        self._inode = (info.st_dev, info.st_ino)
        if not self.descriptors:
            if self.fd >= 0:
                os.close(self.fd)
            self.fd = fd
            return
        for descriptor in self.descriptors:
            os.dup2(fd, descriptor)
        if fd not in self.descriptors:
            os.close(fd)

    def _replace(self, kept: str) -> None:
        """A new file for the slot, which has given its own away; or that one again, if no other can be made now."""
        try:
            self.open()
        except OSError:
            self.fs.rename(kept, self.name)
            raise

    def _open_file(self) -> int:
        try:
            return self.fs.open_output(self.name)
        except FileNotFoundError:       # tidied away, as this runner was just coming, or was given up
            self.fs.check_there()
            try:
                return self._open_anew()
            except FileNotFoundError as error:      # and again; or the mount shows what is gone
                raise OSError(errno.ESTALE, "its folder is tidied away again and again", error.filename) from None

    def _open_anew(self) -> int:
        for folder in (layout.INTERNAL, layout.TMP):
            try:
                self.fs.mkdir(folder)
            except FileExistsError:
                pass
        return self.fs.open_output(self.name)

    def size(self) -> int:
        """Bytes written since the file was emptied."""
        try:
            return self._stat().st_size
        except FileNotFoundError:       # tidied away
            return 0

    def ends(self, most: int) -> bytes:
        """The first and the last ``most`` bytes, or all of it, if that is not more."""
        size = self.size()
        try:
            fd = self.fs.open_read(self.name)
        except FileNotFoundError:
            return b""
        try:
            if size <= 2 * most:
                return os.pread(fd, size, 0)
            return os.pread(fd, most, 0) + os.pread(fd, most, size - most)
        finally:
            os.close(fd)

    def collect(self, text: str = "output") -> dict[str, object]:
        """What the record says of the output: the text or its end, and how much there was."""
        size = self.size()
        if not size:
            return {}
        try:
            fd = self.fs.open_read(self.name)
        except FileNotFoundError:
            return {}
        try:
            length = size if size <= KEEP else TAIL
            found = os.pread(fd, length, size - length).decode(errors="backslashreplace")
        finally:
            os.close(fd)
        return {text: found, f"{text}_bytes": size}

    def clear(self, name: Name, state: str) -> str:
        """Make room for the next task; a long output is kept as a file beside the task's.

        Returns that file's name, or ''.
        """
        size = self.size()
        if not size:
            return ""
        kept = ""
        if size > KEEP:
            kept = f"{state}/{str(name)[:-4]}{self.kind}"
            try:
                self.fs.rename(self.name, kept)
                self._replace(kept)
            except OSError:
                kept = ""
        if not kept:
            try:
                self.fs.empty(self.name)
            except OSError:
                pass                    # the next task's output comes behind this one's
        return kept

    def log_name(self, name: Name, state: str) -> str:
        """Where `clear` will put the output of this attempt, or '' if it fits into the record."""
        return f"{state}/{str(name)[:-4]}{self.kind}" if self.size() > KEEP else ""

    def _stat(self) -> os.stat_result:
        try:
            info = os.fstat(self.fd)    # costs nothing on a shared folder
            if (info.st_dev, info.st_ino) == self._inode:
                return info
        except OSError:
            pass                        # the task closed it, or put something else there
        return os.stat(self.fs.path(self.name))
