"""Meta's webhooks as bytes with their signature, made before the measurement begins."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator

from bench.load import Request
from messaging import demo_settings
from simulators.graph.app import sign

TARGET = "/api/webhooks/cloud"
STATUSES = ("sent", "delivered", "read", "played")
_numbers = itertools.count()


def status(message_id: str, wamid: str, customer: str, name: str) -> dict[str, object]:
    """Return one status as the Graph simulator sends it (docs/providers/cloud.md §3.5)."""
    update: dict[str, object] = {
        "id": wamid,
        "status": name,
        "timestamp": str(int(time.time())),
        "recipient_id": customer,
        "recipient_user_id": f"BR.{customer}",
        "biz_opaque_callback_data": f"{message_id}.1",
    }
    if name != "played":
        update["pricing"] = {
            "billable": False, "pricing_model": "PMP", "category": "service",
            "type": "free_customer_service",
        }  # fmt: skip
    return update


def body(
    updates: Iterable[dict[str, object]], number: str = demo_settings.PHONE_NUMBER_ID
) -> bytes:
    """Return one envelope with one change per status, as Meta groups them."""
    metadata = {
        "display_phone_number": demo_settings.OWN_NUMBER.lstrip("+"), "phone_number_id": number,
    }  # fmt: skip
    changes = [
        {
            "field": "messages",
            "value": {
                "messaging_product": "whatsapp",
                "metadata": metadata,
                "contacts": [{"wa_id": update["recipient_id"]}],
                "statuses": [update],
            },
        }
        for update in updates
    ]
    envelope = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "102290129340398", "changes": changes}],
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def request(payload: bytes, target: str = TARGET) -> Request:
    """Return the signed webhook request."""
    headers = (
        "Content-Type: application/json\r\nUser-Agent: facebookexternalua\r\n"
        f"X-Hub-Signature-256: {sign(demo_settings.APP_SECRET, payload)}\r\n"
    )
    return Request(target, payload, headers.encode())


def unknown_statuses() -> Iterator[Request]:
    """Yield webhooks with one status each, of messages that nobody has sent."""
    for number in _numbers:
        name = STATUSES[number % len(STATUSES)]
        id_ = f"00000000-0000-4000-8000-{number:012d}"
        update = status(id_, f"wamid.UNKNOWN{number}", f"551198{number % 10**7:07d}", name)
        yield request(body([update]))
