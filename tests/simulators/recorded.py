"""Recorded exchanges with the real wwebjs-api, and the values that may differ."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import requests

from tests import FIXTURES_DIR

FOLDER = FIXTURES_DIR / "wwebjs"
# Times and random values; everything else must be equal.
_RANDOM_KEYS = {"t", "timestamp", "mediaKey", "filehash", "messageSecret"}
_KEY_ID = re.compile(r"3EB0[0-9A-F]{18}")
_QR = re.compile(r"2@[A-Za-z0-9+/]{88},[A-Za-z0-9+/=]{44},[A-Za-z0-9+/=]{44},[A-Za-z0-9+/=]{44},1")
_PAIRING_CODE = re.compile(r"ABCD[0-9A-F]{4}")
_FOLDER_NAME = re.compile(r"running for .*? Use a different")


@dataclass(frozen=True)
class Exchange:
    """One capture: a request and its response."""

    method: str
    path: str
    headers: dict[str, str]
    payload: str
    status: int
    content_type: str
    body: str

    @classmethod
    def read(cls, name: str) -> Exchange:
        request_lines: list[str] = []
        payload = ""
        lines = (FOLDER / f"{name}.txt").read_text().splitlines()
        while lines[0].startswith(">"):
            request_lines.append(lines.pop(0).removeprefix(">").strip())
        if "" in request_lines:
            payload = "\n".join(request_lines[request_lines.index("") + 1 :])
            request_lines = request_lines[: request_lines.index("")]
        response_lines: list[str] = []
        while lines and lines[0].startswith("<") and not lines[0].startswith("<!"):
            response_lines.append(lines.pop(0).removeprefix("<").strip())
        method, path = request_lines[0].split()[:2]
        headers = dict(line.split(": ", 1) for line in request_lines[1:])
        types = [
            line.partition(": ")[2] for line in response_lines if line.startswith("Content-Type")
        ]
        return cls(
            method=method,
            path=path,
            headers=headers,
            payload=payload,
            status=int(response_lines[0].split()[1]),
            content_type=types[0].partition(";")[0],
            body="\n".join(lines).strip(),
        )

    def replay(self, url: str) -> requests.Response:
        """Send the same request to the simulator."""
        return requests.request(
            self.method,
            url + self.path,
            headers=self.headers,
            data=self.payload.encode() or None,
            timeout=10,
        )

    def check(self, url: str) -> None:
        """Assert that the simulator answers like the real server."""
        answer = self.replay(url)
        assert answer.status_code == self.status, answer.text
        assert answer.headers["Content-Type"].partition(";")[0] == self.content_type
        if self.content_type == "application/json":
            assert stripped(answer.json()) == stripped(json.loads(self.body))
        elif self.content_type == "text/html":
            assert answer.text.strip() == self.body
        else:
            assert answer.content.startswith(b"\x89PNG")


def stripped(value: Any, key: str = "") -> Any:
    """Return a value without ids, times and random data; of an error only the first line.

    The other lines of an error are the page's stack (docs/providers/wwebjs.md §0).
    """
    if key in _RANDOM_KEYS:
        return key
    if isinstance(value, dict):
        return {name: stripped(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [stripped(item) for item in value]
    if not isinstance(value, str):
        return value
    if key == "error":
        return _FOLDER_NAME.sub("running for (local) Use a different", value.partition("\n")[0])
    if key == "qr":
        return bool(_QR.fullmatch(value))
    return _PAIRING_CODE.sub("CODE", _KEY_ID.sub("KEY", value))
