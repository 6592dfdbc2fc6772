"""Simulated WhatsApp providers: the Cloud API, wwebjs-api and Evolution API, over real sockets.

Nothing here imports the product or Django. ``python -m simulators --help`` runs them.
"""
