"""Signals of this layer to higher layers, which it must not import: they connect themselves."""

from __future__ import annotations

from django.dispatch import Signal

# The state of a channel's attached session, its QR code or an incident changed. Sent inside the
# transaction that writes it, with the argument `channel` (a Channel).
session_changed = Signal()

# A connection dropped or recovered: the pages show it. Sent inside the transaction that writes it,
# with the argument `channel`.
incident_changed = Signal()

# The settings of a channel were saved, with the arguments `channel` and `before` (a Channel; None
# for a new one). Sent inside the transaction that writes them.
channel_saved = Signal()
