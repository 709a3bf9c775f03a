"""TaskList as its users see it."""
