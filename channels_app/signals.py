"""What this floor says to those above. It may not import them, so they connect themselves."""

from __future__ import annotations

from django.dispatch import Signal

# The state of a channel's attached session, its QR code or an incident changed. Sent inside of the
# transaction that writes it, with the argument `channel` (a Channel).
session_changed = Signal()

# A connection that served does not any more, or is back: the pages show it. Sent inside of the
# transaction that writes it, with the argument `channel`.
incident_changed = Signal()

# Sending by a channel's own way or as a fallback: it could not be sent, or there was no answer,
# with `code` and `route`; or it was taken after trouble. The argument `channel` is the one that
# sends.
send_refused = Signal()
send_taken = Signal()
