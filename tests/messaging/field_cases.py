"""Inputs from the field (tests/fixtures/cases), received as their provider would deliver them."""

from __future__ import annotations

import json
import time
from typing import Any

from channels_app.models import Channel
from messaging.inbound import journal
from messaging.inbound.arrivals import Arrival
from simulators.graph.app import make_wamid
from tests import FIXTURES_DIR
from tests.conftest import NUMBER_ID
from tests.messaging.support import post, read_events

CASES = FIXTURES_DIR / "cases"
CUSTOMER = "5511988880001"


def case(name: str) -> Any:
    return json.loads((CASES / f"{name}.json").read_text())


def receive_cloud(payloads: Any, *, number: str = CUSTOMER, read: bool = True) -> None:
    """Post Meta's payloads in order. `@…@` stand for fresh values."""
    text = json.dumps(payloads).replace("@NUM@", number).replace("@NOW@", str(int(time.time())))
    for n in range(1, 9):
        text = text.replace(f"@W{n}@", make_wamid(number, f"3A{number[-4:]}{n:04}"))
    for payload in json.loads(text):
        for entry in payload["entry"]:
            for change in entry["changes"]:
                # What concerns the account names no number.
                if "metadata" in change["value"]:
                    change["value"]["metadata"]["phone_number_id"] = NUMBER_ID
        post(payload)
        if read:
            read_events()
    read_events()


def receive_evolution(channel: Channel, events: Any) -> None:
    """Receive events of the channel's instance, in order."""
    now = int(time.time())
    text = json.dumps(events).replace('"NOW"', str(now))
    for event in json.loads(text):
        event["instance"] = channel.instance_name
        journal.receive("evolution", [Arrival.from_body(str(channel.pk), encode(event))])
        read_events()


def receive_wwebjs(channel: Channel, callbacks: Any) -> None:
    """Receive callbacks of the channel's attached session, in order."""
    now = int(time.time())
    text = json.dumps(callbacks).replace('"NOW"', str(now))
    for body in json.loads(text):
        body["sessionId"] = channel.wwebjs_session_id
        journal.receive("wwebjs", [Arrival.from_body(str(channel.pk), encode(body))])
        read_events()


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()
