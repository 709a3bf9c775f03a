"""A program for run-once 0.4.2 that fails at many keys, and prints how many of them are still claimed:
`failing_script.py original|ours`."""

from __future__ import annotations

import sys
import time

if sys.argv[1] == "original":
    import run_once  # type: ignore[import-not-found]
else:
    from runforrest import once as run_once

keys = [f"key{number}" for number in range(1000)]
claimed = [key for key in keys if run_once.try_lock(run_once.make_lock(key, 600.0))[0]]
for key in claimed:
    run_once.notify_failure(key)
time.sleep(5.0)     # what is asynchronous has had its time
print(f"of {len(claimed)}: {len(run_once.search_keys_by_prefix('key'))}")
