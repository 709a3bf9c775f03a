"""Programs that are measured, each started by its path so that nothing of this package is loaded in it."""
