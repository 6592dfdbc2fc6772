"""The recorded events, and the expectations for each.

`python -m tests.channels_app.providers.evolution.recordings` rewrites `expected.json`: review the
diff.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

from channels_app.providers.events import Event
from channels_app.providers.evolution import events as evolution_events
from tests import FIXTURES_DIR

_HERE = Path(__file__).parent
EXPECTED = _HERE / "expected.json"


def samples() -> dict[str, dict[str, Any]]:
    """Return the recorded bodies by name.

    `event_samples.json` has one of each kind from 2.3.7; `more_samples.json` has all others with a
    different format, and those of 2.3.6.
    """
    files = (
        FIXTURES_DIR / "evolution" / "event_samples.json",
        _HERE / "more_samples.json",
    )
    return {
        name: sample["payload"]
        for file in files
        for name, sample in json.loads(file.read_text()).items()
    }


def as_json(event: Event) -> dict[str, Any]:
    """Return an event as its class and its non-default fields."""
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    values: dict[str, Any] = {
        name: str(value) if isinstance(value, dt.datetime) else value
        for name, value in fields.items()
        if value not in ("", None, False, {}, ())
    }
    if "failure" in values:
        values["failure"] = dataclasses.asdict(values["failure"])
    return {"is": type(event).__name__, **values}


def read_all() -> dict[str, list[dict[str, Any]]]:
    return {
        name: [as_json(event) for event in evolution_events.read(payload)]
        for name, payload in samples().items()
    }


if __name__ == "__main__":
    lines = [
        f" {json.dumps(name)}: {json.dumps(events, ensure_ascii=False)}"
        for name, events in read_all().items()
    ]
    EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
