"""Fault injection: run a product while processes are killed, then check it against the ledgers."""
