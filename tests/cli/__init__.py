"""Tests of the command line: real programs, real signals, a real terminal."""
