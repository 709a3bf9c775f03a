"""Imports point down: the table of layers, held against every import in the tree.

Late imports (in functions) and typing imports (under TYPE_CHECKING) count like all others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "runforrest"
NAME = "runforrest"

# Lowest first.  A part may import from itself and from all lines above its own, not from its own line.
LAYERS: list[set[str]] = [
    {"bash", "errors"},
    {"commands", "graph", "model"},
    {"arguments"},
    {"folder"},
    {"scheduling", "results"},
    {"process"},
    {"runner"},
    {"engines"},
    {"batch", "once", "futures"},
    {"status", "doctor"},
    {"logfile"},
    {"runs"},
    {"tasklist"},
    {"mapping"},
    {"cli", "web", "__main__"},
    {"__init__"},
]

# What the lines alone would allow: status looks at the folder and never at what runs tasks.
FORBIDDEN = {("status", "process"), ("status", "runner")}
# What the lines alone would forbid: `python -m runforrest` is the command line.
ALLOWED = {("__main__", "cli")}

LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """All modules of the tree by dotted name; a package's name is its ``__init__``'s."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        names = [NAME, *path.relative_to(root).with_suffix("").parts]
        if names[-1] == "__init__":
            names.pop()
        found[".".join(names)] = path
    return found


def part_of(module: str) -> str:
    """The line of the table that a module belongs to: ``runforrest.folder.frames`` → ``folder``."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(module: str, path: Path, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line number and absolute name of everything that a module imports, from wherever it is."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield node.lineno, submodule if submodule in known else base
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def own_imports(root: Path = ROOT) -> Iterator[tuple[str, Path, int, str]]:
    """Importing module, its file and line, and the imported module: runforrest's own only."""
    tree = modules(root)
    for module, path in tree.items():
        for line, target in imports(module, path, set(tree)):
            if target == NAME or target.startswith(NAME + "."):
                yield module, path, line, target


def is_allowed(importer: str, imported: str) -> bool:
    pair = (importer, imported)
    if importer == imported or pair in ALLOWED:
        return True
    return LEVEL[imported] < LEVEL[importer] and pair not in FORBIDDEN


def violations(root: Path = ROOT) -> list[str]:
    found = []
    for module, path, line, target in own_imports(root):
        importer, imported = part_of(module), part_of(target)
        if importer in LEVEL and imported in LEVEL and not is_allowed(importer, imported):
            found.append(f"{path.relative_to(root.parent)}:{line}: {importer} imports {imported} ({target})")
    return found


def cycle(root: Path = ROOT) -> list[str]:
    """The modules of one import cycle, or nothing."""
    tree = set(modules(root))
    graph: dict[str, set[str]] = {module: set() for module in tree}
    for module, _, _, target in own_imports(root):
        if target in tree and target != module:
            graph[module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]  # graphlib names the imported before the importer
    return []


def test_every_part_of_the_tree_is_in_the_table() -> None:
    unknown = sorted({part_of(module) for module in modules()} - set(LEVEL))
    assert not unknown, f"put these into the table LAYERS of {Path(__file__).name}: {', '.join(unknown)}"


def test_every_import_names_a_part_of_the_table() -> None:
    """Catches an import of something that is not there, which no other test might ever execute."""
    tree = modules()
    wrong = [
        f"{path.relative_to(ROOT.parent)}:{line}: {target}"
        for _, path, line, target in own_imports()
        if target not in tree
    ]
    assert not wrong, "imports of modules that do not exist:\n" + "\n".join(wrong)


def test_imports_point_down() -> None:
    wrong = violations()
    assert not wrong, "imports must point down:\n" + "\n".join(wrong)


def test_errors_imports_nothing() -> None:
    path = ROOT / "errors.py"
    found = {target for _, target in imports(f"{NAME}.errors", path, set())} - {"__future__"}
    assert not found, f"errors.py is loaded in every child and imports nothing, but here: {found}"


def test_no_import_cycles() -> None:
    found = cycle()
    assert not found, "import cycle: " + " → ".join(found)


# -- the checks themselves ---------------------------------------------------------------


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / NAME


def test_every_way_to_import_is_seen(tmp_path: Path) -> None:
    bad = """
import runforrest.runner.loop as loop
from runforrest import tasklist
from .. import cli
from ..cli import main
from . import fine
def late():
    from runforrest.engines import local
if TYPE_CHECKING:
    from ..process import guard
importlib.import_module("runforrest.web")
from runforrest import TaskList
from ..errors import FolderError
"""
    files = {"__init__.py": "", "folder/__init__.py": "", "folder/fine.py": "", "folder/bad.py": bad}
    files |= {"tasklist.py": "", "cli/__init__.py": "", "errors.py": ""}
    lines = [int(text.split(":")[1]) for text in violations(write_tree(tmp_path, files))]
    assert sorted(lines) == [2, 3, 4, 5, 8, 10, 11, 12]


def test_exceptions_to_the_lines() -> None:
    assert not is_allowed("graph", "model") and not is_allowed("model", "graph")
    assert not is_allowed("status", "runner") and not is_allowed("status", "process")
    assert is_allowed("status", "folder") and is_allowed("tasklist", "status")
    assert is_allowed("__main__", "cli") and not is_allowed("cli", "__main__")


def test_a_cycle_is_named(tmp_path: Path) -> None:
    files = {"__init__.py": "", "folder/__init__.py": "", "folder/a.py": "from . import b\n"}
    files["folder/b.py"] = "def late():\n    from .a import name\n"
    found = cycle(write_tree(tmp_path, files))
    assert set(found) == {"runforrest.folder.a", "runforrest.folder.b"}
