"""Model fields for encrypted text and for normalized HTTP addresses.

`EncryptedTextField` stores a secret as a Fernet token. The first key of
`settings.ENCRYPTION_KEYS` encrypts; every key of the list can decrypt. To rotate, prepend a new
key, run `manage.py rotate_encryption`, then remove the old one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from core import http_addresses
from core.validators import validate_http_address


class UndecryptableError(Exception):
    """None of the configured keys can decrypt a stored secret. Never carries the value."""


def _cipher() -> MultiFernet:
    keys = settings.ENCRYPTION_KEYS
    if not keys:
        raise ImproperlyConfigured("ENCRYPTION_KEYS is empty: secrets cannot be stored or read.")
    return _cipher_for(tuple(keys))


@lru_cache(maxsize=4)
def _cipher_for(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt_bytes(content: bytes) -> bytes:
    """Encrypt bytes with the first key, for data stored outside the database."""
    return _cipher().encrypt(content)


def decrypt_bytes(token: bytes) -> bytes:
    """Decrypt a token made by `encrypt_bytes`. Raises UndecryptableError."""
    try:
        return _cipher().decrypt(token)
    except InvalidToken:
        raise UndecryptableError(
            "A stored file was encrypted with a key that is not in ENCRYPTION_KEYS."
        ) from None


def re_encrypt_bytes(token: bytes) -> bytes:
    """Encrypt a token's content again with the first key. Raises UndecryptableError."""
    return encrypt_bytes(decrypt_bytes(token))


if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
    _CharField = models.CharField[str, str]
else:
    _TextField = models.TextField
    _CharField = models.CharField


class EncryptedFileNameField(_CharField):
    """The name of a stored file that contains one token made by `encrypt_bytes`.

    `manage.py rotate_encryption` uses this field to find the files it must re-encrypt.
    """


class _Token(str):
    """A secret in its stored form."""

    __slots__ = ()


class _DecryptedWhenRead(DeferredAttribute):
    """A model's attribute that decrypts a loaded token when it is first read."""

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        value = super().__get__(instance, cls)
        if isinstance(value, _Token):
            value = cast("EncryptedTextField", self.field).decrypt(value)
            self.__set__(instance, value)
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class EncryptedTextField(_TextField):
    """Text that is stored encrypted and decrypted when the attribute is read; "" stays empty.

    Only the `isnull` lookup is allowed, because equal secrets have different tokens.
    Reading the attribute raises UndecryptableError if the key is no longer configured. `values()`
    and `values_list()` return the token.
    """

    descriptor_class = _DecryptedWhenRead

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return _Token(value) if value else value

    def decrypt(self, token: str) -> str:
        """Return the secret of a token. Raises UndecryptableError."""
        try:
            return _cipher().decrypt(token.encode()).decode()
        except InvalidToken:
            raise UndecryptableError(
                f"{self.model.__name__}.{self.name} was encrypted with a key that is not in "
                "ENCRYPTION_KEYS."
            ) from None

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Return a secret that nobody has read as the token that was loaded."""
        return model_instance.__dict__.get(self.attname)

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if not value or isinstance(value, _Token):
            return value
        return _cipher().encrypt(value.encode()).decode()

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name != "isnull":
            raise FieldError(f"{self.name} is encrypted and cannot be searched.")
        return super().get_lookup(lookup_name)


class HttpAddressField(_CharField):
    """A server address, stored and looked up in normalized form (`core.http_addresses`).

    Forms, REST, the admin, imports and queryset updates all go through this field.
    """

    default_validators = [validate_http_address]

    def to_python(self, value: Any) -> Any:
        value = super().to_python(value)
        return http_addresses.normalize(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return http_addresses.normalize(value) if isinstance(value, str) else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Set the stored form on the instance too, because it is compared with other rows."""
        value = self.to_python(super().pre_save(model_instance, add))
        setattr(model_instance, self.attname, value)
        return value
