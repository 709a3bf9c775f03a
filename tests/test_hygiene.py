"""The tree as such: what must be in it, and what must not."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "runforrest"
MODULES = sorted(PACKAGE.rglob("*.py"))

# pip and apt know where their packages come from; an address in the tree would go past the
# mirrors of whoever runs it.
REGISTRY_URL = re.compile(
    r"https?://(?:[^\s/@]+@)?(?:[\w-]+\.)*"
    r"(?:pypi\.org|files\.pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org)\b",
    re.IGNORECASE,
)


def repository_files() -> list[Path]:
    """What is committed, and what ``git add .`` would add."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-c", "-o", "--exclude-standard"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git, and a clone")
    paths = {ROOT / name for name in run.stdout.decode().split("\0") if name}
    return sorted(path for path in paths if path.is_file())


def test_no_address_of_a_package_registry() -> None:
    found = []
    for path in repository_files():
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if match := REGISTRY_URL.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("host", ["pypi.org", "test.pypi.org", "user:word@PyPI.org", "deb.debian.org:80"])
def test_an_address_of_a_package_registry_is_seen(host: str) -> None:
    assert REGISTRY_URL.search(f"see https://{host}/simple")


def test_metadata_is_in_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read_string((ROOT / "setup.cfg").read_text("utf-8"))
    assert config["metadata"]["name"] == "runforrest"
    assert config["metadata"]["version"]
    assert config["options"]["python_requires"] == ">=3.10"
    assert not re.search(r"^\[project", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)


def test_readme_begins_with_the_install_command() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    language, first = blocks[0]
    assert language == "sh"
    assert first.startswith("python -m pip install ") and first.count("\n") == 1
    second = [block for language, block in blocks if language == "sh"][1]
    assert "pytest" in second and second.count("\n") == 1


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path}: no module docstring"


def test_every_folder_with_modules_is_a_package() -> None:
    """Without ``__init__.py`` the folder would be missing from the wheel."""
    folders = {path.parent for path in MODULES}
    missing = sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists())
    assert not missing, f"no __init__.py in: {', '.join(missing)}"


@pytest.mark.slow
def test_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: build/ of an earlier build here would leak into the wheel
    source.mkdir()
    for name in ["setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "runforrest", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--wheel-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("runforrest/")}
    files = {str(path.relative_to(source)) for path in (source / "runforrest").rglob("*") if path.is_file()}
    assert "runforrest/py.typed" in packed
    assert packed == files
