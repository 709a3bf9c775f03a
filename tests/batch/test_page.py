"""The page for users of disBatch names everything that they may have typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runforrest.batch import mail
from runforrest.batch.environment import variables

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "coming-from-disbatch.md").read_text("utf-8")
OPTIONS = """-e --exit-code -f --fail-fast -r --resume-from -R --retry --force-resume -p --prefix --status-header
    --logfile --loglevel --mailTo --mailFreq -w --web -s --ssh-node -c --cpusPerTask -t --tasksPerNode --fill
    -E --env-resource -g --gpu -C --context-task-limit -l --label --retire-cmd -k --no-retire -K -S --startup-only
    --kvsserver --use-address --fix-paths --taskcommand --taskserver DISBATCH_SSH_NODELIST TASKFILE -"""


@pytest.mark.parametrize("option", OPTIONS.split())
def test_every_option_is_there(option: str) -> None:
    table = PAGE.partition("## Options")[2].partition("\n## ")[0]
    assert re.search(rf"`{re.escape(option)}[`\s\[]", table), option


def test_every_variable_is_there() -> None:
    for name in variables("j", "n", 0, 1, -1):
        assert name.removesuffix("_ZP") in PAGE
    named = set(re.findall(r"RUNFORREST_SMTP\w*", PAGE))
    assert named == set(re.findall(r"RUNFORREST_SMTP\w*", mail.__doc__ or ""))
