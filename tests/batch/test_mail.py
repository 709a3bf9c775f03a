"""Messages on how a batch goes, handed to a real server on this machine."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from runforrest.batch.mail import MOST_LINES, Mail, Server
from runforrest.batch.statusfile import BARRIER, CHECK, PER_ENGINE, SKIPPED, TASK, StatusLine, written
from runforrest.errors import InvalidArgument


class Inbox:
    """A handler of aiosmtpd that keeps what it is given; ``refuse``: every message is refused."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.refuse = False
        self.senders: list[str] = []
        self.secure: list[bool] = []

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        if self.refuse:
            return "550 no room"
        assert isinstance(envelope.content, bytes) and envelope.mail_from is not None
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        self.senders.append(envelope.mail_from)
        self.secure.append(session.ssl is not None)
        return "250 OK"

    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for message in self.messages]

    def body(self, number: int) -> list[str]:
        return str(self.messages[number].get_content()).rstrip().split("\r\n")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def start(inbox: Inbox) -> Iterator[Callable[..., Server]]:
    """Starts a server; further arguments are aiosmtpd's."""
    controllers = []

    def starter(**options: Any) -> Server:
        controllers.append(Controller(inbox, hostname="127.0.0.1", port=free_port(), **options))
        controllers[-1].start()
        return Server("127.0.0.1", controllers[-1].port)
    yield starter
    for controller in controllers:
        controller.stop()


def ended(task: int, code: int = 0, kind: str = TASK, command: str = "true") -> StatusLine:
    return StatusLine(kind, task, task + 1, -1, "node", 17, code, 1.0, 2.0, command=written(command))


def test_a_message_after_every_n_and_one_at_the_end(inbox: Inbox, start: Callable[..., Server]) -> None:
    said: list[str] = []
    mail = Mail(start(), "me@example.org", 2, "/data/run 1", said.append)
    sent = [ended(0), ended(1, 3), ended(2, kind=BARRIER), ended(3, kind=SKIPPED), ended(0, kind=PER_ENGINE),
            ended(4, kind=CHECK), ended(5, -9, command="echo grüße \udcff")]
    for record in sent:
        mail.add(record)
    assert inbox.subjects() == ["/data/run 1 has completed 2 tasks (1 failed)",
                                "/data/run 1 has completed 4 tasks (1 failed)"]
    mail.finish("has ended: 3 succeeded, 2 failed")
    assert inbox.subjects()[2:] == ["/data/run 1 has completed 5 tasks (2 failed) and has ended: 3 succeeded, 2 failed"]
    lines = [record.to_line() for record in sent if record.kind not in (BARRIER, CHECK)]
    assert [inbox.body(n) for n in range(3)] == [["Last 2:", "", *lines[:2]], ["Last 2:", "", *lines[2:4]],
                                                 ["Last 1:", "", lines[4]]]
    assert all(m["To"] == m["From"] == "me@example.org" for m in inbox.messages) and not said


def test_who_takes_over_goes_on_counting(inbox: Inbox, start: Callable[..., Server]) -> None:
    mail = Mail(start(), "a@example.org,b@example.org", 10, "p", print, ended=19, failed=4)
    mail.add(ended(19))
    assert inbox.subjects() == ["p has completed 20 tasks (4 failed)"]
    assert [address.addr_spec for address in inbox.messages[0]["To"].addresses] == ["a@example.org", "b@example.org"]
    assert inbox.senders == ["a@example.org"]


def test_a_message_of_many_records_has_the_last(inbox: Inbox, start: Callable[..., Server]) -> None:
    mail = Mail(start(), "me@example.org", 3 * MOST_LINES, "p", print)
    for number in range(3 * MOST_LINES):
        mail.add(ended(number))
    body = inbox.body(0)
    assert body[0] == f"Last {3 * MOST_LINES}: (the first {2 * MOST_LINES} are in the status file)"
    assert len(body) == MOST_LINES + 2 and body[-1] == ended(3 * MOST_LINES - 1).to_line()


def test_a_server_that_is_away_is_named_once() -> None:
    said: list[str] = []
    port = free_port()
    mail = Mail(Server("127.0.0.1", port), "me@example.org", 1, "p", said.append)
    for number in range(5):
        mail.add(ended(number))
    mail.finish()
    assert len(said) == 1 and said[0].startswith(f"no mail to me@example.org by 127.0.0.1:{port}: ")


def test_the_last_message_is_tried_all_the_same(inbox: Inbox, start: Callable[..., Server]) -> None:
    said: list[str] = []
    mail = Mail(start(), "me@example.org", 1, "p", said.append)
    inbox.refuse = True
    mail.add(ended(0))
    inbox.refuse = False
    mail.add(ended(1))
    assert not inbox.messages and len(said) == 1 and "no room" in said[0]
    mail.finish()
    assert inbox.subjects() == ["p has completed 2 tasks and has ended"] and len(said) == 1


def test_a_prefix_of_any_characters(inbox: Inbox, start: Callable[..., Server]) -> None:
    Mail(start(), "me@example.org", 1, "run\nBcc: you@example.org\udcff", print).add(ended(0))
    assert inbox.subjects() == ["run Bcc: you@example.org? has completed 1 tasks"] and "Bcc" not in inbox.messages[0]


# -- the server --------------------------------------------------------------------------


def test_server_of_the_environment() -> None:
    of = Server.of_environment
    assert of({}) == Server("localhost", 25) and of({"RUNFORREST_SMTP": ""}) == Server()
    assert of({"RUNFORREST_SMTP": "mail", "RUNFORREST_SMTP_SECURITY": "TLS"}) == Server("mail", 465, security="tls")
    assert of({"RUNFORREST_SMTP": "mail:587", "RUNFORREST_SMTP_USER": "u", "RUNFORREST_SMTP_PASSWORD": "p",
               "RUNFORREST_SMTP_SECURITY": "starttls", "RUNFORREST_SMTP_FROM": "me@x"}) == \
        Server("mail", 587, "u", "p", "starttls", "me@x")
    for wrong in ({"RUNFORREST_SMTP": "mail:"}, {"RUNFORREST_SMTP": ":25"}, {"RUNFORREST_SMTP": "mail:x"},
                  {"RUNFORREST_SMTP": "mail:0"}, {"RUNFORREST_SMTP": "mail:65536"},
                  {"RUNFORREST_SMTP_SECURITY": "ssl"}):
        with pytest.raises(InvalidArgument):
            of(wrong)


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(Server(password="secret"))


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Of 127.0.0.1, made by itself and trusted here."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make a certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
                   check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    return cert, key


def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(handled=False, success=data == LoginPassword(b"user", b"word"))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_encrypted_with_a_login(security: str, certificate: tuple[Path, Path], inbox: Inbox,
                                start: Callable[..., Server]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    options: dict[str, Any] = {"tls_context": context, "require_starttls": True} if security == "starttls" else \
        {"ssl_context": context, "auth_require_tls": False}
    port = start(authenticator=authenticator, auth_required=True, **options).port
    said: list[str] = []
    for password in ("wrong", "word"):
        server = Server("127.0.0.1", port, "user", password, security, "batch@example.org")
        Mail(server, "me@example.org", 1, "p", said.append).add(ended(0))
    assert inbox.subjects() == ["p has completed 1 tasks"] and inbox.messages[0]["From"] == "batch@example.org"
    assert len(said) == 1 and "535" in said[0] and "wrong" not in said[0]


def test_a_certificate_that_nobody_vouches_for(certificate: tuple[Path, Path], inbox: Inbox,
                                               start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    monkeypatch.delenv("SSL_CERT_FILE")
    port = start(tls_context=context, require_starttls=True).port
    said: list[str] = []
    Mail(Server("127.0.0.1", port, security="starttls"), "me@example.org", 1, "p", said.append).add(ended(0))
    assert not inbox.messages and "certificate" in said[0]
