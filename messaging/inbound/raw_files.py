"""The raw bytes of events that could not be stored as they came (stubs), in the file storage.

They may hold what is never stored in the open: an instance's token, codes that link a phone
(`inbound.withheld`), and nobody can take those out of bytes that could not be read. So the file is
encrypted with the first key of ENCRYPTION_KEYS, like every secret; `rotate_encryption` encrypts it
anew. `inbound.media` deletes it with its event.
"""

from __future__ import annotations

import hashlib

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from core import fields
from core.fields import UndecryptableError


def write(content: bytes, *, key: str) -> str:
    """Store the bytes; return the file's name. The same key is one file. Raises OSError."""
    name = f"inbound/{hashlib.sha256(key.encode(errors='replace')).hexdigest()}.enc"
    if default_storage.exists(name):
        if _has(name, content):
            return name
        # A process that ended while it wrote.
        default_storage.delete(name)
    return default_storage.save(name, ContentFile(fields.encrypt(content)))


def read(name: str) -> bytes:
    """Return the bytes. Raises OSError, or UndecryptableError without their key."""
    with default_storage.open(name, "rb") as file:
        return fields.decrypt(file.read())


def _has(name: str, content: bytes) -> bool:
    try:
        return read(name) == content
    except UndecryptableError:
        return False
