"""Periodic maintenance: requeue work that lost its job."""

from __future__ import annotations

from channels_app.connections import circuit_breaker
from messaging.media import files as media


def sweep() -> None:
    """Queue a job for each awaited file that has none, and end new-chat blocks that are over."""
    media.enqueue_overdue()
    circuit_breaker.end_expired_blocks()
