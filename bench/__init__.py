"""Measurements, not tests: each prints its figures for the machine it runs on."""
