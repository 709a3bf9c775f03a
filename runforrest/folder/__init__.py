"""The task list on disk: its files, their format, and every transition between its states."""
