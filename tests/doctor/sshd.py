"""An ssh server of our own on this machine, with its own keys; nothing of the user's is read or written."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import wait_for

NEEDED = ("sshd", "ssh", "ssh-keygen")
SEPARATION = Path("/run/sshd")         # which a server started by root wants
SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/hostkey
AuthorizedKeysFile {folder}/id.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
SetEnv PATH={path}
"""
CLIENT = """
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/id
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
"""


def find(program: str) -> str:
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])) or ""


@contextmanager
def server(folder: Path, path: str) -> Iterator[str]:
    """What to give to ssh to get there; ``path``: the PATH of its sessions.  Skips where there is no sshd."""
    missing = [program for program in NEEDED if not find(program)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key in ("hostkey", "id"):
        subprocess.run([find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'hostkey.pub').read_text()}")
    facts = {"port": port, "folder": folder, "path": path, "user": getpass.getuser()}
    (folder / "sshd_config").write_text(SERVER.format(**facts))
    (folder / "ssh_config").write_text(CLIENT.format(**facts))
    made = os.geteuid() == 0 and not SEPARATION.exists()
    if made:
        SEPARATION.mkdir(0o755)
    program = subprocess.Popen([find("sshd"), "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL,
                               stderr=(folder / "log").open("wb"))
    try:
        wait_for(lambda: program.poll() is not None or _listens(port), what="sshd to listen")
        if program.poll() is not None:
            pytest.skip(f"sshd does not start: {(folder / 'log').read_text().strip()}")
        yield f"-F {folder / 'ssh_config'} there"
    finally:
        program.terminate()
        program.wait()
        if made:
            SEPARATION.rmdir()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
