"""Tests of runforrest."""
