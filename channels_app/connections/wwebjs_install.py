"""The commands that install a wwebjs-api server for a channel."""

from __future__ import annotations

import re
import shlex
from urllib.parse import urlsplit

from django.conf import settings

from channels_app.models import Channel
from core.phone_numbers import other_brazilian_form

KEY_PLACEHOLDER = "********"
# The value in the project's requirements, verbatim.
_DOCUMENTED = (
    "auth_failure|authenticated|call|change_state|disconnected|group_join|group_leave|group_update"
    "|loading_screen|media_uploaded|message|message_ack|message_create|message_reaction"
    "|message_revoke_everyone|qr|ready|contact_changed"
)
# Further callbacks that the server can send (docs/providers/wwebjs.md §4).
_UNDOCUMENTED = (
    "chat_archived|chat_removed|code|group_admin_changed|group_membership_request|media"
    "|message_ciphertext|message_edit|message_revoke_me|unread_count|vote_update"
)
_REQUIRED = ("auth_failure", "change_state", "disconnected", "message_ack", "qr", "ready")


def docker_command(channel: Channel, *, callbacks: bool, reveal: bool = False) -> str:
    """Return the command that installs the server for this channel.

    Without `callbacks` it is the command of the requirements. With them, it enables the callbacks
    that Alterna needs: messages typed on the phone only if this channel shows them; customers'
    messages only if the linked number is known to differ from the channel's, because otherwise the
    Cloud API reports them. It contains the key only with `reveal`, which requires the permission to
    change the channel and an explicit request.
    """
    disabled = _DOCUMENTED
    if callbacks:
        enabled = _enabled_callbacks(channel)
        known = f"{_DOCUMENTED}|{_UNDOCUMENTED}".split("|")
        disabled = "|".join(name for name in known if name not in enabled)
    key = channel.wwebjs_api_key if reveal and channel.wwebjs_api_key else KEY_PLACEHOLDER
    variables = [
        "ENABLE_LOCAL_CALLBACK_EXAMPLE=FALSE",
        "MAX_ATTACHMENT_SIZE=10000000",
        "SET_MESSAGES_AS_SEEN=FALSE",
        f"DISABLED_CALLBACKS={disabled}",
        "ENABLE_SWAGGER_ENDPOINT=FALSE",
        "PUPPETEER_SKIP_CHROMIUM_DOWNLOAD=TRUE",
        "NODE_ENV=production",
        f"API_KEY={key}",
        f"BASE_WEBHOOK_URL={webhook_url(channel)}" if callbacks else "ENABLE_WEBHOOK=FALSE",
        "PORT=3000",
    ]
    lines = ["docker run -d", "--name wwebjs_api", f"-p {_port(channel)}:3000", "--restart=always"]
    lines += [f"-e {_quoted(variable)}" for variable in variables]
    return " \\\n  ".join([*lines, "avoylenko/wwebjs-api"])


def _enabled_callbacks(channel: Channel) -> set[str]:
    enabled = {*_REQUIRED}
    if not channel.ignore_messages_sent_outside:
        enabled |= {"message_create", "media"}
    linked, expected = channel.wwebjs.own_number, re.sub(r"\D", "", channel.phone_number)
    if linked and linked not in (expected, other_brazilian_form(expected)):
        enabled |= {"message", "media"}
    return enabled


# Verbatim from the requirements; the command above follows them.
UPDATE_COMMANDS = "docker pull avoylenko/wwebjs-api\ndocker rm -f wwebjs_api"


def is_webhook_local() -> bool:
    """Return whether callbacks would go to localhost, which no container can reach."""
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def webhook_url(channel: Channel) -> str:
    """Return the URL to which the server posts its callbacks."""
    return f"{settings.PUBLIC_URL}/api/webhooks/wwebjs/{channel.pk}"


def _port(channel: Channel) -> int:
    try:
        parts = urlsplit(channel.wwebjs_url)
        return parts.port or 3500
    except ValueError:
        return 3500


def _quoted(variable: str) -> str:
    """Quote a variable as the requirements do: in double quotes if the shell needs quoting."""
    name, _sign, value = variable.partition("=")
    if shlex.quote(value) == value:
        return variable
    plain = not re.search(r"[\"$`\\!]", value)
    return f'"{name}={value}"' if plain else shlex.quote(variable)
