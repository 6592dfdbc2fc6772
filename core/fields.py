"""Fields of a channel: text that is encrypted at rest, and addresses in one spelling.

`EncryptedTextField` keeps a secret as a Fernet token made with the first key of
`settings.ENCRYPTION_KEYS`; every key of that list can read. Put a new key in front, run
`manage.py rotate_encryption`, then drop the old one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import models

from core import http_addresses
from core.validators import validate_http_address


class UndecryptableError(Exception):
    """A stored secret that none of the configured keys can read. Never carries the value."""


def _cipher() -> MultiFernet:
    keys = settings.ENCRYPTION_KEYS
    if not keys:
        raise ImproperlyConfigured("ENCRYPTION_KEYS is empty: secrets cannot be stored or read.")
    return _cipher_of(tuple(keys))


@lru_cache(maxsize=4)
def _cipher_of(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(content: bytes) -> bytes:
    """Return bytes as a token of the first key, for what is encrypted outside of the database."""
    return _cipher().encrypt(content)


def decrypt(token: bytes) -> bytes:
    """Return the bytes of such a token. Raises UndecryptableError."""
    try:
        return _cipher().decrypt(token)
    except InvalidToken:
        raise UndecryptableError(
            "A stored file was encrypted with a key that is not in ENCRYPTION_KEYS."
        ) from None


def re_encrypt(token: bytes) -> bytes:
    """Return a token of the first key with the same content. Raises UndecryptableError."""
    return encrypt(decrypt(token))


if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
    _CharField = models.CharField[str, str]
else:
    _TextField = models.TextField
    _CharField = models.CharField


class EncryptedFileNameField(_CharField):
    """Names a file in the storage that holds one token of `encrypt`.

    `manage.py rotate_encryption` finds by it what is to be encrypted anew.
    """


class EncryptedTextField(_TextField):
    """A text that the database only sees encrypted; the empty string stays empty.

    Look-ups other than `isnull` and `exact ""` are refused: equal secrets have different tokens.
    Raises UndecryptableError when a row is read whose key is not configured any more.
    """

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        if not value:
            return value
        try:
            return _cipher().decrypt(value.encode()).decode()
        except InvalidToken:
            raise UndecryptableError(
                f"{self.model.__name__}.{self.name} was encrypted with a key that is not in "
                "ENCRYPTION_KEYS."
            ) from None

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return _cipher().encrypt(value.encode()).decode() if value else value

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name != "isnull":
            raise FieldError(f"{self.name} is encrypted and cannot be searched.")
        return super().get_lookup(lookup_name)


class HttpAddressField(_CharField):
    """The address of a server, stored and looked up in its normal spelling (`addresses`).

    Forms, REST, the administration, imports and updates by query all pass here.
    """

    default_validators = [validate_http_address]

    def to_python(self, value: Any) -> Any:
        value = super().to_python(value)
        return http_addresses.normalise(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return http_addresses.normalise(value) if isinstance(value, str) else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Show the stored spelling on the instance as well: it is compared with other rows."""
        value = self.to_python(super().pre_save(model_instance, add))
        setattr(model_instance, self.attname, value)
        return value
