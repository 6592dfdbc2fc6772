"""Re-encrypt every stored secret, in rows and in files, with the first key of ENCRYPTION_KEYS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import models, transaction

from core.fields import (
    EncryptedFileNameField,
    EncryptedTextField,
    UndecryptableError,
    re_encrypt_bytes,
)


class Command(BaseCommand):
    """All or nothing: a secret that no key can decrypt leaves every row unchanged."""

    help = (
        "Re-encrypts every secret with the first key of ENCRYPTION_KEYS. Put the new key in "
        "front, restart every process, run this, then drop the old key."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch-size", type=int, default=100)

    def handle(self, *args: Any, **options: Any) -> None:
        batch_size = max(1, options["batch_size"])
        rows = secrets = files = 0
        try:
            with transaction.atomic():
                for model, names in _models_with(EncryptedFileNameField):
                    files += sum(_re_encrypt_files(model, name) for name in names)
                for model, names in encrypted_models():
                    for batch in _batches(model, names, batch_size):
                        stored = [_store(row, names) for row in batch]
                        rows += sum(count > 0 for count in stored)
                        secrets += sum(stored)
        except UndecryptableError as error:
            raise CommandError(f"{error} Nothing was changed.") from None
        self.stdout.write(f"Re-encrypted {secrets} secrets in {rows} rows.")
        if files:
            self.stdout.write(f"Re-encrypted {files} files.")


def encrypted_models() -> Iterator[tuple[type[models.Model], list[str]]]:
    """Yield every model that has encrypted fields, with the field names."""
    return _models_with(EncryptedTextField)


def _models_with(kind: type[Any]) -> Iterator[tuple[type[models.Model], list[str]]]:
    for model in apps.get_models():
        names = [field.attname for field in model._meta.concrete_fields if isinstance(field, kind)]
        if names and not model._meta.proxy:
            yield model, names


def _batches(
    model: type[models.Model], names: list[str], size: int
) -> Iterator[list[models.Model]]:
    """Yield rows by primary key, locked so that no concurrent edit of a secret is lost."""
    last: Any = None
    while True:
        rows = model._default_manager.order_by("pk").only("pk", *names)
        if last is not None:
            rows = rows.filter(pk__gt=last)
        batch = list(rows.select_for_update(of=("self",))[:size])
        if not batch:
            return
        yield batch
        last = batch[-1].pk


def _re_encrypt_files(model: type[models.Model], field: str) -> int:
    """Re-encrypt the field's files under new names; the old files are deleted on commit."""
    named = model._default_manager.exclude(**{field: ""}).select_for_update(of=("self",))
    done = 0
    for pk, name in list(named.order_by("pk").values_list("pk", field)):
        try:
            with default_storage.open(name, "rb") as file:
                token = re_encrypt_bytes(file.read())
        except FileNotFoundError:
            continue
        new = default_storage.save(name, ContentFile(token))
        model._default_manager.filter(pk=pk).update(**{field: new})
        transaction.on_commit(lambda old=name: default_storage.delete(old))  # type: ignore[misc]
        done += 1
    return done


def _store(row: models.Model, names: list[str]) -> int:
    """Re-encrypt the row's secrets and return their number; other columns are unchanged."""
    values = {name: value for name in names if (value := getattr(row, name))}
    if values:
        type(row)._default_manager.filter(pk=row.pk).update(**values)
    return len(values)
