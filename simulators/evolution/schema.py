"""Request validation with the exact texts of Evolution (Node's `jsonschema`), and its schemas.

Evolution reports each failure as `schema.description`, or as the validator's text without its
leading `instance.` (§0 and §1 of `docs/providers/evolution.md`, captures 01, 02 and 04).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any
from urllib.parse import urlsplit

from simulators.base import JsonObject
from simulators.evolution.model import EVENTS

Schema = dict[str, Any]


def validate(value: Any, schema: Schema) -> list[str]:
    """Return all failures in Evolution's order; empty if `value` is valid."""
    return [
        str(text).replace("instance.", "", 1) for text in _failures(value, schema, path="instance")
    ]


def _failures(value: Any, schema: Schema, *, path: str) -> list[str]:
    failures: list[str] = []

    def fail(text: str) -> None:
        failures.append(schema.get("description") or f"{path} {text}")

    wanted = schema.get("type")
    if wanted and not _is_of_type(value, wanted):
        fail(f"is not of a type(s) {wanted}")
    if "enum" in schema and value not in schema["enum"]:
        names = ",".join(_as_javascript(item) for item in schema["enum"])
        fail(f"is not one of enum values: {names}")
    if isinstance(value, str):
        pattern = schema.get("pattern")
        if pattern and not re.search(pattern, value):
            fail(f"does not match pattern {json.dumps(pattern)}")
        if len(value) < schema.get("minLength", 0):
            fail(f"does not meet minimum length of {schema['minLength']}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            fail(f"must be greater than or equal to {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            fail(f"must be less than or equal to {schema['maximum']}")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            fail(f"does not meet minimum length of {schema['minItems']}")
        if "maxItems" in schema and len(value) > schema["maxItems"]:
            fail(f"does not meet maximum length of {schema['maxItems']}")
        if schema.get("uniqueItems"):
            encoded = [json.dumps(item, sort_keys=True) for item in value]
            if len(set(encoded)) != len(encoded):
                fail("contains duplicate item")
        if "items" in schema:
            for index, item in enumerate(value):
                failures += _failures(item, schema["items"], path=f"{path}[{index}]")
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                failures += _failures(value[name], inner, path=f"{path}.{name}")
        for name in schema.get("required", ()):
            if name not in value:
                fail(f'requires property "{name}"')
    return failures


def _is_of_type(value: Any, wanted: str) -> bool:
    if wanted == "string":
        return isinstance(value, str)
    if wanted == "boolean":
        return isinstance(value, bool)
    if wanted == "object":
        return isinstance(value, dict)
    if wanted == "array":
        return isinstance(value, list)
    if isinstance(value, bool):
        return False
    if wanted == "number":
        return isinstance(value, int | float)
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _as_javascript(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "string", "description": "Invalid format"}
KEY: Schema = {
    "type": "object",
    "properties": {"id": STRING, "remoteJid": STRING, "fromMe": BOOLEAN},
    "required": ["id", "remoteJid", "fromMe"],
}
EVENT_LIST: Schema = {"type": "array", "items": {"type": "string", "enum": list(EVENTS)}}

SEND_OPTIONS: JsonObject = {
    "delay": {"type": "integer", "description": "Enter a value in milliseconds"},
    "quoted": {
        "properties": {
            "key": {"type": "object", "properties": {"id": STRING}, "required": ["id"]},
            "message": {"type": "object"},
        }
    },
    "everyOne": BOOLEAN,
    "mentioned": {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {
            "type": "string",
            "pattern": r"^\d+",
            "description": '"mentioned" must be an array of numeric strings',
        },
    },
}


def _send(properties: JsonObject, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": {"number": NUMBER, **properties, **SEND_OPTIONS},
        "required": required,
    }


WEBHOOK: Schema = {
    "type": "object",
    "properties": {
        "webhook": {
            "type": "object",
            "properties": {
                "enabled": BOOLEAN,
                "url": STRING,
                "headers": {"type": "object"},
                "byEvents": BOOLEAN,
                "base64": BOOLEAN,
                "events": EVENT_LIST,
            },
            "required": ["enabled", "url"],
        }
    },
    "required": ["webhook"],
}
WEBSOCKET: Schema = {
    "type": "object",
    "properties": {
        "websocket": {
            "type": "object",
            "properties": {"enabled": BOOLEAN, "events": EVENT_LIST},
            "required": ["enabled"],
        }
    },
}
INSTANCE: Schema = {
    "type": "object",
    "properties": {
        "instanceName": STRING,
        "token": STRING,
        "number": {"type": "string", "pattern": r"^\d+[\.@\w-]+"},
        "qrcode": BOOLEAN,
        "rejectCall": BOOLEAN,
        "msgCall": STRING,
        "groupsIgnore": BOOLEAN,
        "alwaysOnline": BOOLEAN,
        "readMessages": BOOLEAN,
        "readStatus": BOOLEAN,
        "syncFullHistory": BOOLEAN,
    },
}
SETTING_FLAGS = (
    "rejectCall",
    "groupsIgnore",
    "alwaysOnline",
    "readMessages",
    "readStatus",
    "syncFullHistory",
)
SETTINGS: Schema = {
    "type": "object",
    "properties": {
        **dict.fromkeys(SETTING_FLAGS, BOOLEAN),
        "msgCall": STRING,
        "wavoipToken": STRING,
    },
    "required": list(SETTING_FLAGS),
}
PRESENCES = ["unavailable", "available", "composing", "recording", "paused"]
SET_PRESENCE: Schema = {
    "type": "object",
    "properties": {"presence": {"type": "string", "enum": PRESENCES}},
    "required": ["presence"],
}
CALL_OFFER: Schema = {
    "type": "object",
    "properties": {
        "number": NUMBER,
        "isVideo": BOOLEAN,
        "callDuration": {"type": "integer", "minimum": 1, "maximum": 15},
    },
    "required": ["number", "callDuration"],
}

SENDS: dict[str, Schema] = {
    "sendtext": _send({"text": STRING, "linkPreview": BOOLEAN}, ["number", "text"]),
    "sendmedia": _send(
        {
            "mediatype": {"type": "string", "enum": ["image", "document", "video", "audio"]},
            "mimetype": STRING,
            "media": STRING,
            "fileName": STRING,
            "caption": STRING,
        },
        ["number", "mediatype"],
    ),
    "sendwhatsappaudio": _send({"audio": STRING}, ["number"]),
    "sendsticker": _send({"sticker": STRING}, ["number"]),
    "sendptv": _send({"video": STRING}, ["number"]),
    "sendlocation": _send(
        {
            "latitude": {"type": "number"},
            "longitude": {"type": "number"},
            "name": STRING,
            "address": STRING,
        },
        ["number", "latitude", "longitude", "name", "address"],
    ),
    "sendcontact": {
        "type": "object",
        "properties": {
            "number": NUMBER,
            "contact": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "fullName": STRING,
                        "wuid": {
                            "type": "string",
                            "minLength": 10,
                            "pattern": r"\d+",
                            "description": '"wuid" must be a numeric string',
                        },
                        "phoneNumber": {"type": "string", "minLength": 10},
                    },
                    "required": ["fullName", "phoneNumber"],
                },
                "minItems": 1,
                "uniqueItems": True,
            },
        },
        "required": ["number", "contact"],
    },
    "sendreaction": {
        "type": "object",
        "properties": {"key": KEY, "reaction": STRING},
        "required": ["key", "reaction"],
    },
    "sendpoll": _send(
        {
            "name": STRING,
            "selectableCount": {"type": "integer", "minimum": 0, "maximum": 10},
            "values": {
                "type": "array",
                "minItems": 2,
                "maxItems": 10,
                "uniqueItems": True,
                "items": STRING,
            },
        },
        ["number", "name", "selectableCount", "values"],
    ),
    "sendlist": _send(
        {
            "title": STRING,
            "description": STRING,
            "footerText": STRING,
            "buttonText": STRING,
            "sections": {"type": "array", "minItems": 1, "uniqueItems": True},
        },
        ["number", "title", "footerText", "buttonText", "sections"],
    ),
    "sendbuttons": _send(
        {
            "title": STRING,
            "description": STRING,
            "footer": STRING,
            "buttons": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string", "enum": ["reply", "copy", "url", "call", "pix"]}
                    },
                    "required": ["type"],
                },
            },
        },
        ["number"],
    ),
    "sendtemplate": {
        "type": "object",
        "properties": {
            "number": NUMBER,
            "name": STRING,
            "language": STRING,
            "components": {"type": "array"},
        },
        "required": ["name", "language"],
    },
    "sendstatus": {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": ["text", "image", "audio", "video"]},
            "content": STRING,
            "font": {"type": "integer", "minimum": 0, "maximum": 5},
        },
        "required": ["type"],
    },
}
"""Schema of each `/message/<route>`, by its lower-case name (§5)."""

WHATSAPP_NUMBERS: Schema = {
    "type": "object",
    "properties": {
        "numbers": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {
                "type": "string",
                "description": '"numbers" must be an array of numeric strings',
            },
        }
    },
}
READ_MESSAGES: Schema = {
    "type": "object",
    "properties": {
        "readMessages": {"type": "array", "minItems": 1, "uniqueItems": True, "items": KEY}
    },
    "required": ["readMessages"],
}
SEND_PRESENCE: Schema = {
    "type": "object",
    "properties": {
        "number": NUMBER,
        "delay": {"type": "number"},
        "presence": {"type": "string", "enum": PRESENCES},
    },
    "required": ["number", "presence", "delay"],
}
UPDATE_MESSAGE: Schema = {
    "type": "object",
    "properties": {"number": STRING, "text": STRING, "key": KEY},
}
DELETE_MESSAGE: Schema = {
    "type": "object",
    "properties": {"id": STRING, "fromMe": BOOLEAN, "remoteJid": STRING, "participant": STRING},
    "required": ["id", "fromMe", "remoteJid"],
}

_BASE64 = re.compile(r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")
_IPV4 = re.compile(r"^\d{1,3}(\.\d{1,3}){3}$")


def is_base64(value: object) -> bool:
    """Like class-validator's isBase64: padded, no line breaks, no `data:` prefix."""
    return isinstance(value, str) and value != "" and bool(_BASE64.match(value))


def is_url(value: object) -> bool:
    """Like class-validator's isURL: the host needs a dot or is an IP address (§5)."""
    if not isinstance(value, str) or not value or any(character.isspace() for character in value):
        return False
    if "://" not in value:
        value = f"http://{value}"
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https", "ftp"):
        return False
    if _IPV4.match(host):
        return True
    labels = host.split(".")
    return len(labels) >= 2 and all(labels) and labels[-1].isalpha()


def decode_base64(value: str) -> bytes:
    """Return the bytes of raw base64, or the encoded text if it is not base64."""
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return value.encode()


def malformed_json_text(text: str) -> str:
    """Return V8's error for a body that is not JSON (capture 01)."""
    stripped = text.lstrip()
    start = len(text) - len(stripped)
    if stripped.startswith("{"):
        rest = stripped[1:].lstrip()
        if rest[:1] not in ('"', "}", ""):
            return f"Expected property name or '}}' in JSON at position {start + 1}"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            return "Unexpected end of JSON input"
        return f"Unexpected token {text[error.pos]} in JSON at position {error.pos}"
    return f"Unexpected token {stripped[:1]} in JSON at position {start}"
