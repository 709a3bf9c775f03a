"""Messages by mail on how a batch goes: ``--mailTo`` and ``--mailFreq``.

The server is named by the environment of the process that sends:

RUNFORREST_SMTP           HOST or HOST:PORT; localhost, port 25, if not set
RUNFORREST_SMTP_USER      if it wants a login, with RUNFORREST_SMTP_PASSWORD
RUNFORREST_SMTP_SECURITY  'starttls'; 'tls' (from the first byte; port 465 if none is given); 'none', as if not set
RUNFORREST_SMTP_FROM      the sender; the address that the message goes to if not set
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runforrest.batch.statusfile import BARRIER, CHECK, StatusLine
from runforrest.errors import InvalidArgument

if TYPE_CHECKING:
    import smtplib
    from email.message import EmailMessage

SECURITY = ("none", "starttls", "tls")
TIMEOUT = 10.0              # seconds: the feeder waits meanwhile
MOST_LINES = 1000           # records that one message quotes: the last ones


@dataclass(frozen=True)
class Server:
    """Where messages are handed in, and as whom."""

    host: str = "localhost"
    port: int = 25
    user: str = ""
    password: str = field(default="", repr=False)
    security: str = "none"
    sender: str = ""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Server:
        """Raises InvalidArgument."""
        def value(name: str, default: str = "") -> str:
            return environment.get(f"RUNFORREST_SMTP{name}", "").strip() or default
        security = value("_SECURITY", "none").lower()
        if security not in SECURITY:
            raise InvalidArgument(f"RUNFORREST_SMTP_SECURITY must be one of {', '.join(SECURITY)}, not {security!r}",
                                  argument="RUNFORREST_SMTP_SECURITY")
        host, colon, port = value("", "localhost").partition(":")
        port = port if colon else "465" if security == "tls" else "25"
        if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
            raise InvalidArgument(f"RUNFORREST_SMTP must be HOST or HOST:PORT, not {value('')!r}",
                                  argument="RUNFORREST_SMTP")
        return cls(host, int(port), value("_USER"), value("_PASSWORD"), security, value("_FROM"))

    def send(self, message: EmailMessage) -> None:
        """Raises OSError (smtplib's errors are some)."""
        import smtplib
        import ssl
        if self.security == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT,
                                                        context=ssl.create_default_context())
        else:
            connection = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT)
        with connection:
            if self.security == "starttls":
                connection.starttls(context=ssl.create_default_context())
            if self.user:
                connection.login(self.user, self.password)
            connection.send_message(message)


class Mail:
    """A message after every so many ended tasks, and one at the end.

    After a failure nothing more is sent but the last message: a server that is away must not hold up the batch.

    to      the address; ``every``: number of tasks from message to message
    prefix  of the batch, for the subject
    say     is given one line when a message could not be sent: once, whatever happens later
    ended, failed   how many tasks have ended before, when another has sent the messages until now
    """

    def __init__(self, server: Server, to: str, every: int, prefix: str, say: Callable[[str], None],
                 ended: int = 0, failed: int = 0) -> None:
        self.server, self.to, self.every, self.prefix = server, to, every, prefix
        self.ended, self.failed = ended, failed
        self._say = say
        self._broken = False
        self._news: list[str] = []
        self._new = 0

    def count(self, kind: str, code: int) -> bool:
        """Count a record, of which an earlier message may have told; False for a barrier, which does not count."""
        counts = kind not in (BARRIER, CHECK)
        self.ended += counts
        self.failed += counts and code != 0
        return counts

    def add(self, record: StatusLine) -> None:
        """A record that was written."""
        if not self.count(record.kind, record.code):
            return
        self._new += 1
        self._news.append(record.to_line())
        if len(self._news) > 2 * MOST_LINES:
            del self._news[:-MOST_LINES]
        if self.ended % self.every == 0 and not self._broken:
            self._send(self._subject())

    def finish(self, outcome: str = "has ended") -> None:
        """The last message.  ``outcome``: what the batch has come to, in a few words."""
        self._send(self._subject(f" and {outcome}"))

    def _subject(self, outcome: str = "") -> str:
        failed = f" ({self.failed} failed)" if self.failed else ""
        return f"{self.prefix} has completed {self.ended} tasks{failed}{outcome}"

    def _send(self, subject: str) -> None:
        from email.message import EmailMessage
        lines = self._news[-MOST_LINES:]
        left_out = self._new - len(lines)
        head = f"Last {self._new}:" + (f" (the first {left_out} are in the status file)" if left_out else "")
        try:
            message = EmailMessage()
            message["Subject"] = " ".join(subject.encode(errors="replace").decode().split())
            message["From"] = self.server.sender or self.to.partition(",")[0]
            message["To"] = self.to
            message.set_content("\n".join([head, "", *lines, ""]))
            self.server.send(message)
        except (OSError, ValueError) as error:
            if not self._broken:
                self._say(f"no mail to {self.to} by {self.server.host}:{self.server.port}: {error}; until the end no "
                          "other is tried")
            self._broken = True
        self._news, self._new = [], 0
