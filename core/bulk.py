"""Write many rows in one statement."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection
from django.db.models import Model


def update_rows(rows: Sequence[Model], fields: Sequence[str]) -> None:
    """Store these fields of rows of one model, each row with its own values.

    Like Django's `bulk_update`, it sends no signals and sets no `auto_now` field. The values are
    passed as one array per column, where `bulk_update` needs a CASE expression for every value.
    """
    if not rows:
        return
    meta = rows[0]._meta
    by_name = {field.name: field for field in meta.concrete_fields}
    columns = [meta.pk, *(by_name[name] for name in fields)]
    quote = connection.ops.quote_name
    table, names = quote(meta.db_table), [quote(str(column.column)) for column in columns]
    assignments = ", ".join(f"{name} = changed.{name}" for name in names[1:])
    arrays = ", ".join(f"%s::{column.db_type(connection)}[]" for column in columns)
    values = [
        [column.get_db_prep_save(getattr(row, column.attname), connection) for row in rows]
        for column in columns
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            # All names are quoted identifiers of the model.
            f"UPDATE {table} SET {assignments} FROM unnest({arrays}) AS changed({', '.join(names)})"  # noqa: S608
            f" WHERE {table}.{names[0]} = changed.{names[0]}",
            values,
        )
