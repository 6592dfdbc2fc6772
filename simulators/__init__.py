"""Simulated WhatsApp providers: the Cloud API, wwebjs-api and Evolution API, over real sockets.

This package imports neither Alterna nor Django. ``python -m simulators --help`` lists its options.
"""
