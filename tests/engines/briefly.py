"""`python -m tests.engines.briefly ARGUMENTS`: `runforrest ARGUMENTS`, but new lists have a short lease."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from runforrest.cli import main
from runforrest.folder import settings
from runforrest.folder.fsio import FileOps
from tests.engines.support import BEAT, LEASE
from tests.runner.support import with_short_lease

_create = settings.create


def create(fs: FileOps, *arguments: Any, **more: Any) -> settings.Settings:
    _create(fs, *arguments, **more)
    with_short_lease(Path(fs.root), BEAT, LEASE)
    return settings.open_list(fs)


if __name__ == "__main__":
    settings.create = create
    main(sys.argv[1:])
