"""Acme: an engine that exists only in the tests, as docs/adding-a-provider.md describes one.

It shows that an engine is one package, its credentials, one registration and one simulator, and
that nothing else names it.
"""
