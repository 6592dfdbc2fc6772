from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import ApiToken


class Command(BaseCommand):
    help = "Create an API key for a user and print it once, alone on the last line."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="username of the user that the key acts as")
        parser.add_argument("--name", default="", help="purpose of the key")

    def handle(self, *args: Any, user: str, name: str, **options: Any) -> None:
        User = get_user_model()
        try:
            owner = User.objects.get_by_natural_key(user)
        except User.DoesNotExist:
            raise CommandError(f"There is no user “{user}”.") from None
        if not (owner.is_active and owner.is_staff):
            raise CommandError(f"“{user}” is not active staff: a key of theirs would open nothing.")
        if len(name) > ApiToken._meta.get_field("name").max_length:
            raise CommandError("The name is too long: at most 100 characters.")
        _, key = ApiToken.objects.create(user=owner, name=name)
        self.stderr.write("This key is shown once. Keep it like a password.")
        self.stdout.write(key)
