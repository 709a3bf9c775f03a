"""Runners on several hosts: real shared filesystems, hosts with kernels of their own.  `parts/` starts them."""
