"""`python -m` puts the current folder first on the import path: on a shared filesystem that would cost each runner
hundreds of look-ups there, and a file called like a module would break it.  So it goes to the end.
"""

import os
import sys

given = list(sys.path)


def _move_folder_back() -> None:
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return
    if sys.path and os.path.abspath(sys.path[0]) == here and not __file__.startswith(here + os.sep):
        sys.path.append(sys.path.pop(0))


_move_folder_back()
