"""Store the raw bytes of events that could not be parsed (stubs) in the file storage.

The bytes may hold secrets that are never stored in plain text: an instance's token, or codes that
link a phone (`providers.redaction`). They cannot be redacted in bytes that cannot be parsed, so
the file is encrypted with the first key of ENCRYPTION_KEYS, like every secret. `rotate_encryption`
encrypts it again; `media.embedded_files` deletes it with its event.
"""

from __future__ import annotations

import hashlib

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from core import fields
from core.fields import UndecryptableError


def write(content: bytes, *, key: str) -> str:
    """Store the bytes and return the file name, one per key. Raises OSError."""
    name = f"inbound/{hashlib.sha256(key.encode(errors='replace')).hexdigest()}.enc"
    if default_storage.exists(name):
        if _has(name, content):
            return name
        # Incomplete: an earlier process ended while writing it.
        default_storage.delete(name)
    return default_storage.save(name, ContentFile(fields.encrypt_bytes(content)))


def read(name: str) -> bytes:
    """Return the bytes. Raises OSError, or UndecryptableError if their key is missing."""
    with default_storage.open(name, "rb") as file:
        return fields.decrypt_bytes(file.read())


def _has(name: str, content: bytes) -> bool:
    try:
        return read(name) == content
    except UndecryptableError:
        return False
