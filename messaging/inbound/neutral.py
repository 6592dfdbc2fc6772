"""One JSON form of a payload, whichever transport brought it. Pure.

Evolution turns every Buffer into a byte array. Socket.IO carries it as a binary attachment and
hands over `bytes`; JSON shows the same value as an object of numbered keys, `{"0":12,"1":250}`;
Node writes a Buffer of its own as `{"type":"Buffer","data":[12,250]}`
(contracts/evolution-api.md §10.1). All of them become base64 text here, at any depth, so that one
event is one value in the journal and has one dedupe key. By webhook an empty byte array cannot be
told from an empty object: both are `{}`.

The rest becomes what PostgreSQL can store: see `neutral`. What has no such form raises
`Unstorable`; the journal then stores a stub with the raw bytes (`encode` writes them, `decode`
reads them again).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from core.text import storable

# Deeper than any provider's event; PostgreSQL and Python's own JSON have limits of their own.
DEEPEST = 200
# Characters of one event as JSON, without the file that is set aside (`inbound.media`).
MOST_CHARACTERS = 8 * 1024 * 1024
# Longer integers are stored as text: no event has one, and Python refuses to print very long ones.
MOST_DIGITS = 40
_LARGEST = 10**MOST_DIGITS
# Python prints no integer of more than some 4,300 digits in decimal.
_PRINTABLE_BITS = 13_000


class Unstorable(Exception):
    """The payload has no JSON form that loses nothing. `code` says why; `detail` where."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


def neutral(payload: Any) -> Any:
    """Return the payload as JSON data that PostgreSQL stores and returns unchanged.

    Bytes in any of their forms are base64 text. Whole floats are integers; NaN, infinities and
    numbers of more than MOST_DIGITS digits are text. NUL characters are left out of text, halves
    of surrogate pairs become "?". Applying it again changes nothing, and the given payload is not
    changed. Raises Unstorable for what is nested deeper than DEEPEST, for values that are no JSON
    and for keys that would become the same key.
    """
    return _neutral(payload, 0)


def characters(value: Any) -> int:
    """Return about how many characters neutral data has as JSON."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, Mapping):
        return 2 + sum(len(key) + 4 + characters(item) for key, item in value.items())
    if isinstance(value, list):
        return 2 + sum(1 + characters(item) for item in value)
    return len(str(value))


def decode(raw: bytes) -> Any:
    """Return the JSON in raw bytes. Raises Unstorable ("not_json", "too_deep")."""
    try:
        return json.loads(raw, parse_int=_integer)
    except RecursionError:
        raise Unstorable("too_deep") from None
    except ValueError as error:
        # Not the error's own words: they may quote the body.
        raise Unstorable("not_json", type(error).__name__) from None


def encode(payload: Any) -> bytes:
    """Return any value as bytes which `decode` reads as the same neutral value. Never raises.

    It is written piece by piece, so depth does not matter; a value that is no JSON is named only.
    """
    return "".join(_pieces(payload)).encode(errors="surrogatepass")


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


def _neutral(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_LARGEST < value < _LARGEST else _digits(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if not value.is_integer():
            return value
        # PostgreSQL returns a whole number as an integer.
        return int(value) if -_LARGEST < value < _LARGEST else repr(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _text_of(bytes(value))
    if depth > DEEPEST:
        raise Unstorable("too_deep")
    if isinstance(value, Mapping):
        found = _object(value, depth)
        content = _bytes_in(found)
        return found if content is None else _text_of(content)
    if isinstance(value, (list, tuple)):
        return [_neutral(item, depth + 1) for item in value]
    raise Unstorable("unknown_type", type(value).__name__)


def _digits(value: int) -> str:
    return str(value) if value.bit_length() < _PRINTABLE_BITS else hex(value)


def _object(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise Unstorable("unknown_type", f"key {type(key).__name__}")
        name = storable(key)
        if name in found:
            raise Unstorable("same_keys")
        found[name] = _neutral(item, depth + 1)
    return found


def _text_of(content: bytes) -> Any:
    return base64.b64encode(content).decode() if content else {}


def _bytes_in(value: Mapping[str, Any]) -> bytes | None:
    """Return the bytes that a neutral object stands for, None for any other object."""
    if "0" in value:
        return _numbered(value)
    if value.keys() == {"type", "data"} and value["type"] == "Buffer":
        return _buffer(value["data"])
    return None


def _numbered(value: Mapping[str, Any]) -> bytes | None:
    found = bytearray()
    for index in range(len(value)):
        byte = value.get(str(index))
        if not _is_byte(byte):
            return None
        found.append(byte)  # type: ignore[arg-type]
    return bytes(found)


def _buffer(data: Any) -> bytes | None:
    if data == {}:
        return b""
    if isinstance(data, list):
        return bytes(data) if all(map(_is_byte, data)) else None
    if isinstance(data, str):
        # As Baileys itself writes a Buffer, or its bytes came as an attachment.
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            return None
    return None


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _pieces(payload: Any) -> Iterator[str]:
    """Yield JSON text; what is still to be written waits on a stack of our own."""
    waiting: list[Any] = [_Value(payload)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
            continue
        value = item.value
        if isinstance(value, Mapping):
            parts: list[Any] = ["{"]
            for index, (key, inner) in enumerate(value.items()):
                name = key if isinstance(key, str) else repr(type(key))
                parts += ["," if index else "", json.dumps(name), ":", _Value(inner)]
            waiting += reversed([*parts, "}"])
        elif isinstance(value, (list, tuple)):
            parts = ["["]
            for index, inner in enumerate(value):
                parts += ["," if index else "", _Value(inner)]
            waiting += reversed([*parts, "]"])
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
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _LARGEST:
        return json.dumps(_digits(value))
    if value is None or isinstance(value, (str, bool, int, float)):
        return json.dumps(value)
    return json.dumps({"unknown_type": type(value).__name__})
