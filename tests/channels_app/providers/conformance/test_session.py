"""The life of a session: started, linked by QR code, stopped, started again, unlinked."""

from __future__ import annotations

from channels_app.providers.sessions import State
from tests.channels_app.providers.conformance.adapter import Adapter, outcome_of, reaches


def test_only_an_engine_that_links_a_phone_has_a_session(adapter: Adapter) -> None:
    assert (adapter.session() is not None) is adapter.engine.capabilities.links_phone


def test_a_session_is_linked_by_its_code_and_sends_only_then(adapter: Adapter) -> None:
    session = adapter.session()
    if session is None:
        return
    message = adapter.message()
    assert session.state().state in (State.DISCONNECTED, State.NOT_CONFIGURED)
    assert not session.provider().check().ok
    # It is missing, so nothing was sent; whether the same request may succeed later depends.
    assert outcome_of(lambda: session.provider().send(message))[0] in ("rejected", "transient")

    session.start()
    reaches(session, State.QR)
    assert session.qr()
    assert not session.provider().check().ok
    assert outcome_of(lambda: session.provider().send(message))[0] == "transient"
    assert adapter.simulator.book.entries == []

    session.scan()
    reaches(session, State.READY)
    assert session.provider().check().ok
    assert outcome_of(lambda: session.provider().send(message))[0] == "accepted"


def test_a_stopped_session_starts_again_without_a_code_and_an_unlinked_one_needs_one(
    adapter: Adapter,
) -> None:
    session = adapter.session()
    if session is None:
        return
    session.start()
    reaches(session, State.QR)
    session.scan()
    reaches(session, State.READY)

    if session.can_stop:
        session.stop()
        reaches(session, State.DISCONNECTED)
        session.start()
        reaches(session, State.READY)

    session.unlink()
    reaches(session, State.DISCONNECTED)
    session.start()
    reaches(session, State.QR)
