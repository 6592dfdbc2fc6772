"""Convert a payload to the same JSON form for every transport. Pure.

Evolution turns every Buffer into a byte array. Socket.IO carries it as a binary attachment and
delivers `bytes`; JSON shows the same value as an object with numbered keys, `{"0":12,"1":250}`;
Node serializes a Buffer as `{"type":"Buffer","data":[12,250]}`
(docs/providers/evolution.md §10.1). All of these become base64 text here, at any depth, so that an
event has one value in the journal and one dedupe key. A webhook cannot distinguish an empty byte
array from an empty object: both are `{}`.

Other values are converted to what PostgreSQL can store: see `normalize`. A payload that cannot be
converted raises `Unstorable`; the journal then stores a stub with the raw bytes (`encode` writes
them, `decode` reads them).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from core.text import storable

# Deeper than any provider's event; PostgreSQL and Python's JSON parser have their own limits.
MAX_DEPTH = 200
# Characters of one event as JSON, without the extracted file (`media.embedded_files`).
MAX_CHARACTERS = 8 * 1024 * 1024
# Longer integers are stored as text: no event has one, and Python refuses to print very long ones.
MAX_DIGITS = 40
_MAX_INTEGER = 10**MAX_DIGITS
# Python does not print integers of more than about 4,300 decimal digits.
_PRINTABLE_BITS = 13_000
# What `normalize` changes in text and objects: bytes in any form, NUL and surrogates. An escaped
# ASCII character may hide the first two.
_CHANGED = re.compile(rb'"0"|"Buffer"|\\u(?:00[0-7]|[dD][89a-fA-F])|\x00')


class Unstorable(Exception):
    """The payload has no lossless JSON form. `code` gives the reason, `detail` the place."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


def normalize(payload: Any) -> Any:
    """Return the payload as JSON data that PostgreSQL stores and returns unchanged.

    Bytes in any form become base64 text. Whole floats become integers; NaN, infinities and numbers
    of more than MAX_DIGITS digits become text. NUL characters are removed from text, and unpaired
    surrogates become "?". The function is idempotent and does not modify the given payload. Raises
    Unstorable for nesting deeper than MAX_DEPTH, for values that are not JSON, and for keys that
    would collide.
    """
    return _normalize(payload, 0)


def characters(value: Any) -> int:
    """Return the approximate length of normalized data as JSON, in characters."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, Mapping):
        return 2 + sum(len(key) + 4 + characters(item) for key, item in value.items())
    if isinstance(value, list):
        return 2 + sum(1 + characters(item) for item in value)
    return len(str(value))


def decode(raw: bytes) -> Any:
    """Parse JSON; its numbers are normalized. Raises Unstorable ("not_json", "too_deep")."""
    try:
        return json.loads(raw, parse_int=_integer, parse_float=_float, parse_constant=_not_a_number)
    except RecursionError:
        raise Unstorable("too_deep") from None
    except ValueError as error:
        # The error's message is omitted: it may quote the body.
        raise Unstorable("not_json", type(error).__name__) from None


def is_normal(raw: bytes, payload: Any) -> bool:
    """Return whether a decoded payload is certainly its own normal form.

    Almost every event is, and this is much faster than `normalize`. False proves nothing.
    """
    if _CHANGED.search(raw):
        return False
    try:
        # The JSON parser accepts UTF-8 with surrogates.
        raw.isascii() or raw.decode()
    except UnicodeDecodeError:
        return False
    return raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH or _is_shallow(payload)


def encode(payload: Any) -> bytes:
    """Encode any value so that `decode` returns the same normalized value. Never raises.

    It writes iteratively, so any depth works; a value that is not JSON is replaced by its type.
    """
    return "".join(_pieces(payload)).encode(errors="surrogatepass")


def _is_shallow(payload: Any) -> bool:
    level = [payload]
    for _depth in range(MAX_DEPTH):
        inner = (one.values() if type(one) is dict else one for one in level)
        level = [item for items in inner for item in items if type(item) in (dict, list)]
        if not level:
            return True
    return False


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _float(text: str) -> Any:
    return _normalize(float(text), 0)


def _not_a_number(name: str) -> str:
    return str(float(name))


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_not_a_number)


def _normalize(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_MAX_INTEGER < value < _MAX_INTEGER else _digits(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if not value.is_integer():
            return value
        # PostgreSQL returns a whole number as an integer.
        return int(value) if -_MAX_INTEGER < value < _MAX_INTEGER else repr(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _base64_text(bytes(value))
    if depth > MAX_DEPTH:
        raise Unstorable("too_deep")
    if isinstance(value, Mapping):
        normalized = _object(value, depth)
        content = _bytes_in(normalized)
        return normalized if content is None else _base64_text(content)
    if isinstance(value, (list, tuple)):
        return [_normalize(item, depth + 1) for item in value]
    raise Unstorable("unknown_type", type(value).__name__)


def _digits(value: int) -> str:
    return str(value) if value.bit_length() < _PRINTABLE_BITS else hex(value)


def _object(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    normalized: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise Unstorable("unknown_type", f"key {type(key).__name__}")
        name = storable(key)
        if name in normalized:
            raise Unstorable("same_keys")
        normalized[name] = _normalize(item, depth + 1)
    return normalized


def _base64_text(content: bytes) -> Any:
    return base64.b64encode(content).decode() if content else {}


def _bytes_in(value: Mapping[str, Any]) -> bytes | None:
    """Return the bytes that a normalized object represents, or None for any other object."""
    if "0" in value:
        return _numbered(value)
    if value.keys() == {"type", "data"} and value["type"] == "Buffer":
        return _buffer(value["data"])
    return None


def _numbered(value: Mapping[str, Any]) -> bytes | None:
    content = bytearray()
    for index in range(len(value)):
        byte = value.get(str(index))
        if not _is_byte(byte):
            return None
        content.append(byte)  # type: ignore[arg-type]
    return bytes(content)


def _buffer(data: Any) -> bytes | None:
    if data == {}:
        return b""
    if isinstance(data, list):
        return bytes(data) if all(map(_is_byte, data)) else None
    if isinstance(data, str):
        # Baileys serializes a Buffer like this; or its bytes came as an attachment.
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            return None
    return None


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _pieces(payload: Any) -> Iterator[str]:
    """Yield JSON text. Values that are still to be written wait on an explicit stack."""
    stack: list[Any] = [_Value(payload)]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
            continue
        value = item.value
        if isinstance(value, Mapping):
            parts: list[Any] = ["{"]
            for index, (key, inner) in enumerate(value.items()):
                name = key if isinstance(key, str) else repr(type(key))
                parts += ["," if index else "", json.dumps(name), ":", _Value(inner)]
            stack += reversed([*parts, "}"])
        elif isinstance(value, (list, tuple)):
            parts = ["["]
            for index, inner in enumerate(value):
                parts += ["," if index else "", _Value(inner)]
            stack += reversed([*parts, "]"])
        else:
            yield _leaf(value)


class _Value:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _leaf(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = base64.b64encode(bytes(value)).decode()
        return json.dumps({"type": "Buffer", "data": data})
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _MAX_INTEGER:
        return json.dumps(_digits(value))
    if value is None or isinstance(value, (str, bool, int, float)):
        return json.dumps(value)
    return json.dumps({"unknown_type": type(value).__name__})
