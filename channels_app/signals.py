"""Signals of this layer to higher layers, which it must not import: they connect themselves."""

from __future__ import annotations

from django.dispatch import Signal

# The state of a channel's attached session, its QR code or an incident changed. Sent inside the
# transaction that writes it, with the argument `channel` (a Channel).
session_changed = Signal()

# A connection dropped or recovered: the pages show it. Sent inside the transaction that writes it,
# with the argument `channel`.
incident_changed = Signal()

# A send on the primary route or as a fallback: it was rejected or got no response, with `code` and
# `route`; or it was accepted after earlier failures. The argument `channel` is the sending channel.
send_refused = Signal()
send_taken = Signal()
