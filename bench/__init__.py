"""Benchmarks: each prints its figures for the current machine."""
