"""Every event recorded from a real Evolution, parsed: one line each in `expected.json`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from channels_app.providers.evolution import events as evolution_events
from tests.channels_app.providers.evolution import recordings

SAMPLES = recordings.samples()
EXPECTED: dict[str, Any] = json.loads(recordings.EXPECTED.read_text())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_recorded_event_is_parsed_as_expected(name: str) -> None:
    assert [
        recordings.as_json(event) for event in evolution_events.read(SAMPLES[name])
    ] == EXPECTED[name]


def test_every_expectation_belongs_to_a_recorded_event() -> None:
    assert list(EXPECTED) == list(SAMPLES)


def test_no_byte_array_is_stored() -> None:
    text = json.dumps(EXPECTED)
    for bytes_ in ("mediaKey", "jpegThumbnail", "fileSha256", "base64", "iVBORw0KGgo", "VCARD"):
        assert bytes_ not in text
