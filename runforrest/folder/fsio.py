"""The one object through which everything touches a task list.

Counting, fault injection, simulation and the recording of writes all hang on this seam:
every method announces itself to `FileOps.before` and, if it succeeded, to `FileOps.after`.
A test overrides these two or puts a function into ``hook``; in runners and children that a test
starts, ``RUNFORREST_FSIO_HOOK=module:function`` does the same.  Loaded in every child.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from runforrest.folder import layout
from runforrest.folder.trust import Trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar
    T = TypeVar("T")
    Hook = Callable[[str, tuple[object, ...]], None]

HOOK_VARIABLE = "RUNFORREST_FSIO_HOOK"
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
FOLDER = os.O_RDONLY | NOFOLLOW | getattr(os, "O_DIRECTORY", 0)
CHUNK = 1 << 26                    # bytes given to one write call
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class FileOps:
    """File operations on one folder, by names relative to ``root``.

    They raise what the system raises.  After an error, a rename may have taken place all the same:
    the caller looks for its own destination (`exists`) before it concludes anything.
    What is opened is never a symbolic link.

    trust    whose files may be unpickled, and for whom new ones are made
    awaited  a runner is at work: where the whole folder is away, nothing is concluded from what is not there
    """

    def __init__(self, root: str | os.PathLike[str], hook: Hook | None = None, trust: Trust | None = None) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.hook = hook or _hook_from_environment()
        self.trust = trust or Trust()
        self.awaited = False

    def before(self, operation: str, *args: object) -> None:
        if self.hook is not None:
            self.hook(operation, args)

    def after(self, operation: str, *args: object) -> None:
        """Called when the operation has succeeded."""

    def check_there(self) -> None:
        """Raise OSError (ESTALE) if the whole list is away, as an automount, or by a person's hand, and ``awaited``:
        then it says nothing that some name is not in it.
        """
        if self.awaited and not self.is_there():
            raise OSError(errno.ESTALE, "the folder of the list is not there", self.root)

    def _find(self, look: Callable[[], T]) -> T:
        """What this returns.  Where it found nothing it looks again: the list may have come back in between, and only
        what is not there while the list is says something.
        """
        for last in (not self.awaited, True):
            try:
                return look()
            except OSError as error:
                if error.errno in ABSENT:
                    self.check_there()
                if last or error.errno not in ABSENT:
                    raise
        raise AssertionError

    def is_there(self) -> bool:
        """Whether there is a list; what it was mounted on is none."""
        return os.path.exists(self.path(layout.SETTINGS)) or os.path.isdir(self.path(layout.TODO))

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    # -- names ---------------------------------------------------------------------------

    def rename(self, source: str, destination: str) -> None:
        self.before("rename", source, destination)
        os.rename(f"{self.root}/{source}", f"{self.root}/{destination}")
        self.after("rename", source, destination)

    def unlink(self, name: str) -> None:
        """Remove a file; one that is gone already is fine (NFS may repeat the call)."""
        self.before("unlink", name)
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:
            return
        self.after("unlink", name)

    def unlink_twin(self, name: str, other: str) -> None:
        """Remove a name if it is one of the same file as ``other``: a filesystem may have both after a power cut,
        and a rename from one to the other does nothing, and succeeds.
        """
        try:
            mine, theirs = os.lstat(self.path(name)), os.lstat(self.path(other))
        except OSError:
            return
        if name != other and (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino):
            self.unlink(name)

    def mkdir(self, name: str) -> None:
        self.before("mkdir", name)
        os.mkdir(self.path(name), self.trust.folder_mode & 0o777)
        if self.trust.shared:
            self.share_folder(name)
        self.after("mkdir", name)

    def share_folder(self, name: str) -> None:
        """Give a folder the mode that members of its group need, whatever the umask is."""
        fd = os.open(self.path(name), FOLDER) if name else os.open(self.root, os.O_RDONLY)
        try:
            os.fchmod(fd, self.trust.folder_mode)
        finally:
            os.close(fd)

    def rmdir(self, name: str) -> None:
        self.before("rmdir", name)
        os.rmdir(self.path(name))
        self.after("rmdir", name)

    def listdir(self, name: str) -> list[str]:
        """The names in a folder, sorted, without those that are the system's (``.nfs…``)."""
        return sorted(self.scan(name))

    def entries(self, name: str) -> list[str]:
        """`listdir`; [] where there is no such folder.  Other errors are raised: trouble is not emptiness."""
        try:
            return self.listdir(name)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def scan(self, name: str, folders: bool = True) -> Iterator[str]:
        """The names in a folder as they come; without sub-folders if asked."""
        self.before("listdir", name)
        fd = self._find(lambda: os.open(self.path(name), FOLDER))
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and (folders or not entry.is_dir(follow_symlinks=False)):
                        yield entry.name
        finally:
            os.close(fd)

    def exists(self, name: str) -> bool:
        """Whether the server has the name: opening its folder first makes an NFS client ask.

        Raises OSError if it can't be told: a server in trouble must not read as 'somebody else has it'.
        """
        self.before("exists", name)
        path = self.path(name)

        def look() -> None:
            os.close(os.open(os.path.dirname(path), os.O_RDONLY))
            os.lstat(path)

        for _ in range(2):              # ESTALE: the folder was replaced; look it up once more
            try:
                self._find(look)
                return True
            except OSError as error:
                if error.errno in ABSENT:
                    return False
                if error.errno != errno.ESTALE or error.filename == self.root:      # or the list is away
                    raise
        return False

    # -- contents ------------------------------------------------------------------------

    def create(self, name: str, chunks: Iterable[bytes], force: bool = False, mode: int = 0) -> None:
        """Create a file that must not exist, write the chunks, force them if asked, and close; on an error there is
        no file: the name of some says all, as that of a request.
        """
        self.before("create", name)
        fd = self._open_new(name, os.O_WRONLY | os.O_EXCL, mode)
        try:
            self._fill(fd, name, chunks, force)
        except OSError:
            self._unlink_anyhow(name)
            raise
        self.after("create", name)

    def _unlink_anyhow(self, name: str) -> None:
        try:
            self.unlink(name)
        except OSError:
            pass

    def open_output(self, name: str) -> int:
        """A descriptor to append to and to read from; the file is made if it is missing."""
        self.before("create", name)
        return self._open_new(name, os.O_RDWR | os.O_APPEND)

    def _open_new(self, name: str, flags: int, mode: int = 0) -> int:
        fd = os.open(self.path(name), flags | os.O_CREAT | NOFOLLOW, mode or self.trust.file_mode)
        if self.trust.shared:
            try:
                os.fchmod(fd, mode or self.trust.file_mode)     # whatever the umask is
            except PermissionError:                             # it was there: another member's, who has done so
                pass
        return fd

    def empty(self, name: str) -> None:
        """Cut a file down to nothing."""
        fd = self._open_there(name, os.O_WRONLY)
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def append(self, name: str, chunks: Iterable[bytes], cut: int | None = None) -> None:
        """Append to a file that exists; on an error it is cut back to what it was.

        ``cut``: drop everything from this offset on first, which an earlier writer left unfinished.
        Raises PermissionError for a file of somebody who isn't trusted, and for one with several names:
        one of these may be outside of this folder.
        """
        self.before("open", name)
        fd, info = self._open_own(name, os.O_WRONLY | os.O_APPEND)
        try:
            end = info.st_size
            if cut is not None and cut != end:
                self.before("truncate", name, cut)
                os.ftruncate(fd, cut)
                end = os.fstat(fd).st_size
        except BaseException:
            os.close(fd)
            raise
        self._fill(fd, name, chunks, start=end)
        self.after("append", name)

    def _open_own(self, name: str, flags: int) -> tuple[int, os.stat_result]:
        """Open a file to write to, if it is this list's alone."""
        fd = self._open_there(name, flags)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1 or self.trust.objection(info):
                raise PermissionError(errno.EPERM, "not written to, as it is not this list's alone", self.path(name))
        except BaseException:
            os.close(fd)
            raise
        return fd, info

    def _fill(self, fd: int, name: str, chunks: Iterable[bytes], force: bool = False, start: int | None = None) -> None:
        try:
            try:
                self.before("write", name, chunks)
                for chunk in chunks:
                    _write(fd, chunk)
                if force:
                    self.before("fsync", name)
                    os.fsync(fd)
            except OSError:
                if start is not None:
                    os.ftruncate(fd, start)
                raise
            finally:
                os.close(fd)            # NFS reports ENOSPC and EDQUOT here: not swallowed
        except OSError as error:
            error.filename = error.filename or self.path(name)      # the system knows only the descriptor
            raise

    def open_read(self, name: str) -> int:
        """A descriptor to read from; a symbolic link is refused (ELOOP)."""
        self.before("open", name)
        return self._open_there(name, os.O_RDONLY)

    def _open_there(self, name: str, flags: int) -> int:
        """Open what exists; a pipe in its place must not make us wait for its other end."""
        try:
            return self._find(lambda: os.open(self.path(name), flags | NOFOLLOW | os.O_NONBLOCK))
        except BlockingIOError:         # a file server is taking back what it has lent a client
            return os.open(self.path(name), flags | NOFOLLOW)

    def read(self, name: str) -> bytes:
        return b"".join(self.read_chunks(name))

    def read_chunks(self, name: str) -> Iterator[bytes]:
        """The contents, piece by piece."""
        fd = self.open_read(name)
        try:
            while part := os.read(fd, 1 << 16):
                yield part
        finally:
            os.close(fd)

    # -- forcing to disk -----------------------------------------------------------------

    def force_file(self, name: str, anew: bool = False) -> None:
        """fsync a file; ``anew``: after one that failed, for the system takes what was not written for written.

        Raises PermissionError for what `append` refuses.
        """
        self.before("fsync", name)
        fd, _ = self._open_own(name, os.O_RDWR)
        try:
            at = 0
            while anew and (part := os.pread(fd, CHUNK, at)):
                at += os.pwrite(fd, part, at)
            _fsync(fd)
        finally:
            os.close(fd)

    def force_folder(self, name: str) -> None:
        """fsync a folder, so that the names in it survive a power cut."""
        self.before("fsync", name)
        fd = os.open(self.path(name), FOLDER) if name else os.open(self.root, os.O_RDONLY)
        try:
            _fsync(fd)
        finally:
            os.close(fd)

    def force_all(self) -> None:
        """Force everything written to this filesystem so far: one call for a batch of files."""
        self.before("syncfs", "")
        fd = os.open(self.root, os.O_RDONLY)
        try:
            syncfs(fd)
        finally:
            os.close(fd)


def syncfs(fd: int) -> None:
    """syncfs(2) of the filesystem that the descriptor is on; `os.sync` where there is none."""
    if sys.platform == "linux":
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code), "syncfs")
    os.sync()


def _fsync(fd: int) -> None:
    """fsync what can be forced: not every filesystem has it for folders."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:CHUNK]):]


def _hook_from_environment() -> Hook | None:
    where = os.environ.get(HOOK_VARIABLE)
    if not where:
        return None
    import importlib
    module, _, function = where.partition(":")
    hook: Hook = getattr(importlib.import_module(module), function)
    return hook
