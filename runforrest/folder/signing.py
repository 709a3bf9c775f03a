"""Signatures, where there is a key: what is unpickled was written by somebody who has the key.

An HMAC-SHA256 over the JSON of a record, as it stands in the file, and over its payload.  It is the last
field of the record, ``hmac``.  Loaded in every child.
"""

from __future__ import annotations

import os
import stat

from runforrest.errors import SigningKeyError
from runforrest.folder import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.folder.frames import Record

VARIABLE = "RUNFORREST_KEY_FILE"
#: what is signed; a signature of one kind is none of another
CALL, RESULT, SESSION = "call", "result", "session"
SHORTEST, LONGEST = 32, 4096       # bytes of a key file
_MARK = b',"hmac":"'
_AT = len(_MARK) + 64 + 2            # where it begins, from the end of the record


class Key:
    """The key in a file: 32 to 4096 bytes, all of which count.

    id  names the key without giving anything of it away
    """

    __slots__ = ("_equal", "_mac", "file", "id")

    def __init__(self, file: str) -> None:
        """Raises SigningKeyError if the file can't be read, is too short, or others may read it."""
        import hashlib  # late: without a key no child needs them
        import hmac

        self._equal = hmac.compare_digest
        self.file = os.path.abspath(file)
        secret = _read(self.file)
        self._mac = hmac.new(hmac.digest(secret, b"runforrest 1: signatures", "sha256"), digestmod="sha256")
        self.id = hashlib.sha256(hmac.digest(secret, b"runforrest 1: name of the key", "sha256")).hexdigest()[:8]

    def sign(self, kind: str, id: str, text: bytes, payload: bytes) -> str:
        """The signature of a record, as JSON, and its payload, for the task with this id."""
        mac = self._mac.copy()
        task = os.fsencode(id)
        mac.update(f"{kind} {len(task)} {len(text)} ".encode() + task + text)
        mac.update(payload)
        return mac.hexdigest()

    def signed(self, kind: str, id: str, record: Record | bytes, payload: bytes) -> bytes:
        """The record as JSON, with its signature as the last field."""
        text = record if isinstance(record, bytes) else frames.to_json(record).encode()
        return text[:-1] + _MARK + self.sign(kind, id, text, payload).encode() + b'"}'

    def fits(self, kind: str, id: str, text: bytes, payload: bytes) -> bool:
        """Whether this record, as JSON, ends in its signature."""
        expected = _MARK + self.sign(kind, id, text[:-_AT] + b"}", payload).encode() + b'"}'
        return self._equal(text[-_AT:], expected)


def _read(file: str) -> bytes:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            info = os.fstat(fd)
            secret = os.read(fd, LONGEST + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise SigningKeyError(f"the key file {file} can't be read: {error.strerror}; `head -c 32 /dev/urandom` "
                              f"makes a key", key_file=file) from None
    if info.st_uid not in (os.geteuid(), 0) or info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SigningKeyError(f"the key file {file} is not yours alone: `chmod 600 {file}`, and own it", key_file=file)
    if not SHORTEST <= len(secret) <= LONGEST:
        size = f"more than {LONGEST}" if len(secret) > LONGEST else len(secret)
        raise SigningKeyError(f"the key file {file} has {size} bytes, and a key has {SHORTEST} to {LONGEST}: "
                              f"`head -c 32 /dev/urandom` makes one", key_file=file)
    return secret


def key_from(file: str | os.PathLike[str] | None) -> Key | None:
    """The key in this file, or in the one that ``RUNFORREST_KEY_FILE`` names; None if there is neither."""
    name = os.fsdecode(file) if file else os.environ.get(VARIABLE, "")
    return Key(name) if name else None
