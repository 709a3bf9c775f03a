"""Install the system packages that some tests need, where that is possible.

Run as ``python tests/install.py``.  Always exits with 0: a test whose program is missing skips itself
and says so; here it is only said why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# (Debian package, a program that shows that it is there)
SYSTEM_PACKAGES = [
    ("strace", "strace"),                   # counts and orders system calls, and makes them fail
    ("user-mode-linux", "linux.uml"),       # hosts with kernels of their own
    ("kmod", "modprobe"),                   # … which load their drivers
    ("iproute2", "ip"),                     # … and their network
    ("openssh-server", "sshd"),
    ("openssh-client", "ssh"),
    ("nfs-common", "mount.nfs"),
    ("nfs-kernel-server", "rpc.nfsd"),
    ("rpcbind", "rpcbind"),
    ("sshfs", "sshfs"),
    ("fuse3", "fusermount3"),
    ("glusterfs-server", "glusterd"),
    ("glusterfs-client", "mount.glusterfs"),
    ("e2fsprogs", "mkfs.ext4"),             # disks whose power is cut
    ("xfsprogs", "mkfs.xfs"),
    ("btrfs-progs", "mkfs.btrfs"),
    ("slurmctld", "slurmctld"),             # a cluster whose nodes are namespaces of this machine
    ("slurmd", "slurmd"),
    ("slurm-client", "sbatch"),
    ("netcat-openbsd", "nc"),               # … and ssh to hosts that are
    ("redis-server", "redis-server"),       # keys on a server
]

APT_SECONDS = 300
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"     # not on everybody's PATH
MODULES = Path("/lib/modules")                      # a host with a kernel of its own mounts its drivers there
SEPARATION = Path("/run/sshd")                      # sshd wants it; several tests may start one at the same time
POLICY = Path("/usr/sbin/policy-rc.d")              # asked by each package before it starts a service


def missing_packages() -> list[str]:
    path = os.environ.get("PATH", os.defpath) + os.pathsep + SYSTEM_PATH
    return [package for package, program in SYSTEM_PACKAGES if shutil.which(program, path=path) is None]


def obstacle() -> str | None:
    """Why nothing can be installed here, or None."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    if os.geteuid() != 0:
        return "only root can install it"
    return None


def apt_get(*arguments: str) -> bool:
    """Run apt-get, silent unless it fails."""
    # A service that a package starts must not look like a process that the tests have left.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNFORREST_")}
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    command = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=60", *arguments]
    try:
        run = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=APT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        print(f"tests/install.py: {' '.join(command)}: not done after {APT_SECONDS} s")
        return False
    if run.returncode != 0:
        print(f"tests/install.py: {' '.join(command)}: exit code {run.returncode}\n{run.stdout.rstrip()}")
    return run.returncode == 0


@contextmanager
def no_service_started() -> Iterator[None]:
    """Packages start their services unless this script says no; one that is there already is the machine's own."""
    made = not POLICY.exists()
    if made:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if made:
            POLICY.unlink()


def install(packages: list[str]) -> None:
    """Install all at once, which is quicker; else one by one, so that one that this release lacks costs no other."""
    apt_get("update")  # even if it fails, yesterday's lists may do
    with no_service_started():
        if not apt_get("install", "--no-install-recommends", *packages):
            for package in packages:
                apt_get("install", "--no-install-recommends", package)
    print(f"tests/install.py: installed {' '.join(p for p in packages if p not in missing_packages())}")


def main() -> None:
    missing = missing_packages()
    reason = obstacle()
    if missing and reason is None:
        install(missing)
        missing = missing_packages()
        reason = "apt-get could not install it"
    if obstacle() is None:
        MODULES.mkdir(parents=True, exist_ok=True)
        SEPARATION.mkdir(parents=True, exist_ok=True)
    for package in missing:
        print(f"tests/install.py: skipped {package}: {reason}; tests that need it are skipped")


if __name__ == "__main__":
    main()
