"""Tests of runforrest.status."""
