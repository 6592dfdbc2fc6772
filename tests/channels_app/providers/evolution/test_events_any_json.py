"""No JSON raises an exception."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from channels_app.providers.evolution import events as evolution_events
from tests.channels_app.providers.evolution import recordings

SAMPLES = list(recordings.samples().values())
# Strings that reach deeper into the parser than random ones.
WORDS = (
    "",
    "x",
    "0",
    "REVOKE",
    "READ",
    "open",
    "closed",
    "@lid",
    "1@g.us",
    "9" * 40,
    "\x00",
    "\ud800",
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**12, max_value=10**400)
    | st.floats()
    | st.text()
    | st.sampled_from(WORDS)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def read_everything(payload: Any) -> None:
    for event in evolution_events.read(payload):
        recordings.as_json(event)
    assert len(evolution_events.dedupe_key(payload)) <= 100
    record = payload.get("data") if isinstance(payload, dict) else payload
    for payload_variant in (
        evolution_events.as_event("shop", record),
        *evolution_events.statuses_of(record, "shop"),
    ):
        json.dumps(payload_variant)
        evolution_events.dedupe_key(payload_variant)
        list(evolution_events.read(payload_variant))


@given(JSON)
def test_any_json_is_accepted(payload: Any) -> None:
    read_everything(payload)


@given(
    st.sampled_from([sample["event"] for sample in SAMPLES]),
    st.dictionaries(
        st.sampled_from(
            ["key", "message", "messageTimestamp", "status", "id", "remoteJid", "MessageUpdate"]
        ),
        JSON,
    )
    | JSON,
)
def test_any_data_of_a_known_event_is_accepted(event: str, data: Any) -> None:
    read_everything({"event": event, "instance": "shop", "data": data})


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_a_recorded_event_with_any_part_replaced_is_accepted(
    sample: dict[str, Any], data: st.DataObject
) -> None:
    payload = copy.deepcopy(sample)
    here: Any = payload
    for _ in range(data.draw(st.integers(0, 6))):
        names = list(here) if isinstance(here, dict) else list(range(len(here)))
        name = data.draw(st.sampled_from(names))
        if not isinstance(here[name], dict | list) or not here[name]:
            here[name] = data.draw(JSON)
            break
        here = here[name]
    else:
        names = list(here) if isinstance(here, dict) else list(range(len(here)))
        here[data.draw(st.sampled_from(names))] = data.draw(JSON)
    read_everything(payload)
