"""What identifies a message, whichever text form of its id a provider uses. Pure."""

from __future__ import annotations

from channels_app.providers.cloud.events import web_message_id

# How the ids of calls begin that the official API reports.
CLOUD_CALL = "wacid."
WAMID = "wamid."


def message_key(provider_message_id: str) -> str:
    """Return the part of a message's id that identifies it within a channel.

    A wamid also contains the address under which Meta names the customer, so one message has as
    many wamids as its customer has addresses: only the key inside counts (docs/providers/cloud.md
    §4.4). It is prefixed, because a session's ids are known by a different source. The ids of
    wwebjs-api and Evolution are keys already.
    """
    if not provider_message_id.startswith(WAMID):
        return provider_message_id
    inner = web_message_id(provider_message_id)
    return f"{WAMID}{inner}" if inner else provider_message_id


def keys_of(provider_message_id: str) -> tuple[str, ...]:
    """Return the keys under which a message's sources name it: Meta, and a session of the number.

    They differ only in the prefix.
    """
    inner = bare_key(message_key(provider_message_id))
    return (inner, f"{WAMID}{inner}") if inner else (provider_message_id,)


def bare_key(key: str) -> str:
    """Return the part of a key that both sources name."""
    return key.removeprefix(WAMID)
