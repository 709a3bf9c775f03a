"""Where a slot's tasks write what they print: a file, so that no pipe can fill up and block.

The file belongs to the slot.  It is emptied and used again when the output went into the attempt's
record, and given away to the attempt when there was too much for that.  Loaded in every child.
"""

from __future__ import annotations

import os

from runforrest.folder import layout
from runforrest.folder.fsio import FileOps
from runforrest.model.names import Name

#: output up to this many bytes goes into the record whole, of more only the end
KEEP = 32768
TAIL = 4096


class Output:
    """The output file of one slot."""

    def __init__(self, fs: FileOps, runner: str, slot: int) -> None:
        self.fs = fs
        self.name = layout.output_file(runner, slot)
        self._inode = (-1, -1)

    def open(self) -> None:
        """Make standard output and error of this process, and of its children, go there."""
        try:
            fd = self._open_file()
        except FileNotFoundError:       # the list itself is gone
            fd = os.open(os.devnull, os.O_RDWR)
        info = os.fstat(fd)
        self._inode = (info.st_dev, info.st_ino)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        if fd > 2:
            os.close(fd)

    def _open_file(self) -> int:
        try:
            return self.fs.open_output(self.name)
        except FileNotFoundError:       # tidied away, as this runner was just coming, or was given up
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

    def collect(self) -> dict[str, object]:
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
            text = os.pread(fd, length, size - length).decode(errors="backslashreplace")
        finally:
            os.close(fd)
        return {"output": text, "output_bytes": size}

    def clear(self, name: Name, state: str) -> str:
        """Make room for the next task; a long output is kept as a file beside the task's.

        Returns that file's name, or ''.
        """
        size = self.size()
        if not size:
            return ""
        kept = ""
        if size > KEEP:
            kept = f"{state}/{str(name)[:-4]}.log"
            try:
                self.fs.rename(self.name, kept)
            except OSError:
                kept = ""
        if kept:
            self.open()
        else:
            try:
                self.fs.empty(self.name)
            except OSError:
                pass                    # the next task's output comes behind this one's
        return kept

    def log_name(self, name: Name, state: str) -> str:
        """Where `clear` will put the output of this attempt, or '' if it fits into the record."""
        return f"{state}/{str(name)[:-4]}.log" if self.size() > KEEP else ""

    def _stat(self) -> os.stat_result:
        try:
            info = os.fstat(1)          # costs nothing on a shared folder
            if (info.st_dev, info.st_ino) == self._inode:
                return info
        except OSError:
            pass                        # the task closed it, or put something else there
        return os.stat(self.fs.path(self.name))
