"""Recorded exchanges with the real wwebjs-api, and what of them may differ in a simulator."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import requests

from tests import FIXTURES_DIR

FOLDER = FIXTURES_DIR / "wwebjs"
# Times and random material; everything else has to be the same.
_RANDOM_KEYS = {"t", "timestamp", "mediaKey", "filehash", "messageSecret"}
_KEY_ID = re.compile(r"3EB0[0-9A-F]{18}")
_QR = re.compile(r"2@[A-Za-z0-9+/]{88},[A-Za-z0-9+/=]{44},[A-Za-z0-9+/=]{44},[A-Za-z0-9+/=]{44},1")
_PAIRING_CODE = re.compile(r"ABCD[0-9A-F]{4}")
_FOLDER_NAME = re.compile(r"running for .*? Use a different")


@dataclass(frozen=True)
class Exchange:
    """One capture: the request that was made and the answer that came."""

    method: str
    path: str
    headers: dict[str, str]
    payload: str
    status: int
    content_type: str
    body: str

    @classmethod
    def read(cls, name: str) -> Exchange:
        asked: list[str] = []
        payload = ""
        lines = (FOLDER / f"{name}.txt").read_text().splitlines()
        while lines[0].startswith(">"):
            asked.append(lines.pop(0).removeprefix(">").strip())
        if "" in asked:
            payload = "\n".join(asked[asked.index("") + 1 :])
            asked = asked[: asked.index("")]
        answered: list[str] = []
        while lines and lines[0].startswith("<") and not lines[0].startswith("<!"):
            answered.append(lines.pop(0).removeprefix("<").strip())
        method, path = asked[0].split()[:2]
        headers = dict(line.split(": ", 1) for line in asked[1:])
        types = [line.partition(": ")[2] for line in answered if line.startswith("Content-Type")]
        return cls(
            method=method,
            path=path,
            headers=headers,
            payload=payload,
            status=int(answered[0].split()[1]),
            content_type=types[0].partition(";")[0],
            body="\n".join(lines).strip(),
        )

    def replay(self, url: str) -> requests.Response:
        """Ask the simulator the same."""
        return requests.request(
            self.method,
            url + self.path,
            headers=self.headers,
            data=self.payload.encode() or None,
            timeout=10,
        )

    def check(self, url: str) -> None:
        """Assert that the simulator answers as the real server did."""
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
    """A value without ids, times and noise, and of an error only its first line.

    The lines after it are the page's stack (contracts/wwebjs-api.md §0).
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
