"""The runner: claims tasks, has its slots run them, and publishes how they ended."""

from runforrest.runner.loop import Runner
from runforrest.runner.options import Options

__all__ = ["Options", "Runner"]
