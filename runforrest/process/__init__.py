"""The process tree under a runner: fork server, guards, children, and the ways to end them."""
