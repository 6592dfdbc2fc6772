from __future__ import annotations

import pytest
from django.db import connection


@pytest.mark.django_db
def test_the_tests_run_on_a_postgresql_of_their_own() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW fsync")
        assert cursor.fetchone() == ("off",)
