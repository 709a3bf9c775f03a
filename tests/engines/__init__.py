"""Engines: runners on this host, on hosts that ssh reaches, and in Slurm."""
