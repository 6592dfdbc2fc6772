"""Tokens and phone-linking codes are not stored with their events."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_app.models import Channel
from channels_app.providers import redaction
from channels_app.providers.evolution import events as evolution_events
from messaging.inbound import journal
from messaging.inbound.authentication import Received
from messaging.models import InboundEvent
from tests.channels_app.providers.evolution.recordings import samples
from tests.messaging.support import post

SECRETS = ("EAAG-of-the-business", "2@secret,noise,identity,adv", "ABCD1234", "data:image/png")
QR = {"code": SECRETS[1], "pairingCode": SECRETS[2], "base64": SECRETS[3]}
UPDATED: dict[str, Any] = {
    "event": "qrcode.updated",
    "instance": "shop",
    "data": {"qrcode": {"instance": "shop", **QR}},
    "apikey": SECRETS[0],
}
CODES = (
    {"dataType": "qr", "data": {"qr": SECRETS[1]}, "sessionId": "shop"},
    {"dataType": "code", "data": {"code": SECRETS[2]}, "sessionId": "shop"},
)


def secrets_in(*values: Any) -> list[str]:
    text = json.dumps(values)
    return [secret for secret in SECRETS if secret in text]


def test_only_the_token_and_the_code_are_redacted() -> None:
    before = copy.deepcopy(UPDATED)
    redacted = redaction.from_evolution(UPDATED)
    assert (
        secrets_in(redacted, redaction.from_evolution({**UPDATED, "data": [UPDATED["data"]]})) == []
    )
    assert (redacted["event"], redacted["data"]["qrcode"]["instance"]) == ("qrcode.updated", "shop")
    assert before == UPDATED
    assert [redaction.from_wwebjs(code)["sessionId"] for code in CODES] == ["shop", "shop"]
    assert secrets_in(*map(redaction.from_wwebjs, CODES)) == []


def test_an_event_without_a_token_or_code_is_unchanged() -> None:
    for payload in (
        {"event": "call", "data": None, "apikey": None},
        {"event": "qrcode.updated", "data": {"statusCode": 500}},
        {"event": "qrcode.updated", "data": {"qrcode": {"pairingCode": None}}},
    ):
        assert redaction.from_evolution(payload) == payload
    message = {"dataType": "message", "data": {"code": "x", "qr": "y"}}
    assert redaction.from_wwebjs(message) == message


@pytest.mark.parametrize("name", samples())
def test_a_redacted_recorded_event_is_parsed_to_the_same_events(name: str) -> None:
    payload = samples()[name]
    redacted = redaction.from_evolution(payload)
    assert list(evolution_events.read(redacted)) == list(evolution_events.read(payload))
    assert redacted.get("apikey") in (None, "withheld")
    assert redaction.from_evolution(redacted) == redacted


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["apikey", "data", "qrcode", "code", "qr", "dataType"]), inner
        )
    ),
    max_leaves=8,
)


@given(payload=anything)
def test_redaction_never_raises_and_is_idempotent(payload: Any) -> None:
    for strip in (redaction.from_evolution, redaction.from_wwebjs):
        assert strip(strip(payload)) == strip(payload)


@pytest.mark.django_db
def test_the_journal_stores_no_secret_and_leaves_metas_events_unchanged(channel: Channel) -> None:
    journal.store(source="evolution", source_key="1", dedupe_key="a", payload=UPDATED)
    for code in CODES:
        journal.store(source="wwebjs", source_key="1", dedupe_key=str(code), payload=code)
    signed = {"object": "whatsapp_business_account", "entry": [], "apikey": "a word of Meta's"}
    assert post(signed) == Received.STORED
    assert secrets_in(*InboundEvent.objects.values_list("payload", flat=True)) == []
    assert InboundEvent.objects.get(source="cloud").payload == signed
