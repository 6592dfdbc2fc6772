from __future__ import annotations

from typing import Any

from django.db import migrations

from accounts import roles


def make_roles(apps: Any, schema_editor: Any) -> None:
    roles.install(apps)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_profiles_invitations_and_keys"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
