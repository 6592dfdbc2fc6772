from __future__ import annotations

import threading

import pytest
from django.db import OperationalError, connection, transaction

from channels_app.models import Channel
from core.transactions import TRIES, run_atomic

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_transaction_that_lost_a_deadlock_runs_again(
    channel: Channel, make_channel: object
) -> None:
    other = make_channel()  # type: ignore[operator]
    both = threading.Barrier(2)
    runs: list[str] = []

    def lock_both(name: str, first: int, second: int) -> None:
        def operation() -> None:
            runs.append(name)
            Channel.objects.select_for_update().get(pk=first)
            if len(runs) <= 2:
                both.wait(10)
            Channel.objects.select_for_update().get(pk=second)

        try:
            run_atomic(operation)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=lock_both, args=("a", channel.pk, other.pk)),
        threading.Thread(target=lock_both, args=("b", other.pk, channel.pk)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(runs) in (["a", "a", "b"], ["a", "b", "b"])


@pytest.mark.parametrize("inside", [False, True])
def test_other_errors_and_transactions_of_the_caller_are_not_repeated(inside: bool) -> None:
    runs: list[int] = []

    def fail() -> None:
        runs.append(1)
        raise OperationalError("gone") from (None if not inside else _deadlock())

    with pytest.raises(OperationalError):
        if inside:
            with transaction.atomic():
                run_atomic(fail)
        else:
            run_atomic(fail)
    assert len(runs) == 1 < TRIES


def _deadlock() -> Exception:
    from psycopg.errors import DeadlockDetected

    return DeadlockDetected()
