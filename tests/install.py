"""Install the system packages that some tests need, where that is possible.

Run as ``python tests/install.py``.  Always exits with 0: a test whose program is missing skips itself
and says so; here it is only said why.
"""

from __future__ import annotations

import os
import shutil
import subprocess

# (Debian package, a program that shows that it is there)
SYSTEM_PACKAGES = [
    ("strace", "strace"),  # tests count and order system calls with it
]

APT_SECONDS = 300


def missing_packages() -> list[str]:
    return [package for package, program in SYSTEM_PACKAGES if shutil.which(program) is None]


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


def install(packages: list[str]) -> None:
    """Install one by one, so that a package that this release lacks costs no other."""
    apt_get("update")  # even if it fails, yesterday's lists may do
    for package in packages:
        if apt_get("install", "--no-install-recommends", package):
            print(f"tests/install.py: installed {package}")


def main() -> None:
    missing = missing_packages()
    reason = obstacle()
    if missing and reason is None:
        install(missing)
        missing = missing_packages()
        reason = "apt-get could not install it"
    for package in missing:
        print(f"tests/install.py: skipped {package}: {reason}; tests that need it are skipped")


if __name__ == "__main__":
    main()
