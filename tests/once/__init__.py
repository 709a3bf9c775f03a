"""Keys that are claimed once, in a folder and in a real Redis server."""
