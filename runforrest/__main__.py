"""`python -m runforrest`: the command line, and the debugging of one task in the foreground.

A task's session is loaded into this very module, so it keeps no names of its own that matter.
"""

from runforrest.cli import start

if __name__ == "__main__":
    start()
