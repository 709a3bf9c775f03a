"""The runner: claims tasks, has its slots run them, and publishes how they ended."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runforrest.runner.loop import Runner
    from runforrest.runner.options import Options

__all__ = ["Options", "Runner"]


def __getattr__(name: str) -> object:
    if name == "Runner":
        from runforrest.runner.loop import Runner
        return Runner
    if name == "Options":
        from runforrest.runner.options import Options
        return Options
    raise AttributeError(f"module 'runforrest.runner' has no attribute {name!r}")
