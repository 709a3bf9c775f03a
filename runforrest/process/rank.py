"""What makes a process one of those that mpirun or srun has started together."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: not what a user sets, as OMPI_MCA_btl
_OF_RANK = re.compile(r"PMI_|PMIX_(?!MCA_)|HYDI_|MPI_LOCAL|PRTE_LAUNCHED|"
                      r"OMPI_(COMM_|WORLD_|UNIVERSE_|NUM_APP_|FIRST_RANKS|FILE_|TOOL_|COMMAND|ARGV|APP_CTX|"
                      r"MCA_num_procs|MCA_initial_wdir)")


def without_rank(environment: Mapping[str, str]) -> dict[str, str]:
    """These variables but for those.

    A task is no rank: if it uses MPI, it would take itself for the one that its runner is, and fail, or wait for others
    for ever.
    """
    return {name: value for name, value in environment.items() if not _OF_RANK.match(name)}
