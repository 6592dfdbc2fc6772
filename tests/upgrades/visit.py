"""Reads every row of the database of DATABASE_URL, and opens the pages about them.

    python -m tests.upgrades.visit    print status and address of each page

Fails if a row cannot be read, or a secret cannot be decrypted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import override_settings, setup_test_environment  # noqa: E402

from channels_app.models import Channel  # noqa: E402
from messaging.models import Conversation, Message  # noqa: E402
from tests.upgrades.rows import APPS  # noqa: E402


def main() -> None:
    """Read everything."""
    for app in APPS:
        for model in apps.get_app_config(app).get_models():
            for row in model._base_manager.all():
                for field in model._meta.concrete_fields:
                    getattr(row, field.attname)
                str(row)
    setup_test_environment()
    client = Client()
    client.force_login(get_user_model().objects.filter(is_superuser=True).first())
    # No static files are collected for a test.
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(STORAGES=settings.STORAGES | {"staticfiles": plain}):
        for address in _addresses():
            print(client.get(address).status_code, address)


def _addresses() -> Iterator[str]:
    yield from ("/", "/conversations/", "/channels/", "/messages/held/")
    yield from (f"/conversations/{one.pk}/" for one in Conversation.objects.all())
    yield from (f"/channels/{one.pk}/" for one in Channel.objects.all())
    yield from (f"/messages/{one.pk}/" for one in Message.objects.all()[:3])
    yield from ("/api/channels/", "/api/conversations/", "/api/messages/")
    for model in admin.site._registry:
        yield f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


if __name__ == "__main__":
    main()
