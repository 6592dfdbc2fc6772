"""What is said before a message is sent, and what then happens to it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from channels_app.models import Channel, MessageTemplate
from channels_app.providers import error_codes
from channels_app.providers.cloud.templates import UNUSABLE
from messaging import contacts, costs
from messaging.delivery import accept as sending
from messaging.delivery import policy
from messaging.delivery.preview import preview
from messaging.delivery.schedule import Times
from messaging.delivery.verdict import (
    Charge,
    RouteState,
    Situation,
    Verdict,
    reason_text,
    verdict,
)
from messaging.models import Contact, Conversation, DeliveryAttempt, Message
from messaging.templatetags.statuses import problem
from tests.factories import change_channel, update_connection
from tests.messaging.support import accept, attempt_of, deliver_due, stored_attempts

if TYPE_CHECKING:
    from tests.conftest import Provider

CUSTOMER = "+5511988887777"
NOW = dt.datetime(2026, 11, 30, 12, 0, tzinfo=dt.UTC)


@dataclass
class Setting:
    """The channel, its customer and the simulators of one situation."""

    channel: Channel
    graph: Provider
    wwebjs: Provider
    message: dict[str, Any] = field(default_factory=lambda: {"text": "Olá"})

    def wrote(self, ago: dt.timedelta) -> Conversation:
        """The customer wrote that long ago."""
        conversation = contacts.conversation_with(self.channel, phone_number=CUSTOMER)
        at = timezone.now() - ago
        Conversation.objects.filter(pk=conversation.pk).update(last_inbound_at=at)
        self.graph.simulator.wrote_at[CUSTOMER[1:]] = at.timestamp()  # type: ignore[attr-defined]
        return conversation

    def template(self, **changes: Any) -> None:
        """The account has a template, and the message is one."""
        change_channel(self.channel, business_account_id="102290129340398")
        given: dict[str, Any] = {
            "business_account_id": "102290129340398",
            "template_id": "1",
            "name": "aviso",
            "language": "pt_BR",
            "category": "UTILITY",
            "status": "APPROVED",
            "components": [{"type": "BODY", "text": "Seu pedido saiu."}],
            "synced_at": timezone.now(),
            "updated_at": timezone.now(),
        }
        MessageTemplate.objects.create(**given | changes)
        named = {"name": "aviso", "language": {"code": "pt_BR"}}
        self.message = {"type": "template", "text": "", "content": named}


def _open(given: Setting) -> None:
    given.wrote(dt.timedelta(hours=1))


def _closed(given: Setting) -> None:
    given.wrote(dt.timedelta(hours=25))


def _closed_without_fallback(given: Setting) -> None:
    _closed(given)
    change_channel(given.channel, fallback="none")


def _new_chat_block(given: Setting) -> None:
    until = timezone.now() + dt.timedelta(hours=3)
    update_connection(given.channel, "wwebjs", new_chats_stopped_until=until)


def _no_new_chats(given: Setting) -> None:
    change_channel(given.channel, fallback_new_chats_per_day=0)


def _full_quota(given: Setting) -> None:
    _closed(given)
    change_channel(given.channel, fallback_per_minute=1)
    other = accept(given.channel, "+5511977776666")
    Message.objects.filter(pk=other.pk).update(status="sent", route="wwebjs")
    attempt_of(
        other,
        outcome="accepted",
        route="wwebjs",
        started_at=timezone.now(),  # type: ignore[arg-type]
    )


def _disconnected(given: Setting) -> None:
    _closed(given)
    update_connection(given.channel, "wwebjs", state="disconnected", checked_at=timezone.now())
    given.wwebjs.plays("session_not_connected", forever=True)


def _another_phone(given: Setting) -> None:
    _closed(given)
    update_connection(given.channel, "wwebjs", linked_number="5511900000009")


def _breaker_open(given: Setting) -> None:
    _open(given)
    later = timezone.now() + dt.timedelta(minutes=5)
    update_connection(
        given.channel, breaker_opened_at=timezone.now(), breaker_code="190", breaker_probe_at=later
    )


def _behind_another(given: Setting) -> None:
    _open(given)
    first = accept(given.channel)
    until = timezone.now() + dt.timedelta(minutes=5)
    Message.objects.filter(pk=first.pk).update(decision="waiting_retry", next_attempt_at=until)


def _burst(given: Setting) -> None:
    conversation = given.wrote(dt.timedelta(hours=1))
    now = timezone.now()
    earlier = [
        Message(
            conversation=conversation, direction="out", status="sent", created_at=now,
            round_started_at=now,
        )
        for _ in range(policy.RECIPIENT_BURST)
    ]  # fmt: skip
    Message.objects.bulk_create(earlier)
    DeliveryAttempt.objects.bulk_create(
        DeliveryAttempt(
            message=one, number=1, connection=given.channel.primary, outcome="accepted",
            started_at=now,
        )
        for one in earlier
    )  # fmt: skip


def _scheduled(given: Setting) -> None:
    _open(given)
    given.message["times"] = Times(send_at=timezone.now() + dt.timedelta(hours=2))


def _template(given: Setting) -> None:
    _closed(given)
    given.template()


def _stopped_marketing(given: Setting, category: str = "MARKETING") -> None:
    conversation = given.wrote(dt.timedelta(hours=25))
    Contact.objects.filter(pk=conversation.contact_id).update(marketing_stopped=True)
    given.template(category=category)


def _stopped_marketing_only(given: Setting) -> None:
    _stopped_marketing(given, "UTILITY")


def _interactive(given: Setting, kind: str, action: dict[str, Any]) -> None:
    _closed(given)
    content = {"type": kind, "body": {"text": "Confirma?"}, "action": action}
    given.message = {"type": "interactive", "text": "", "content": content}


def _buttons(given: Setting) -> None:
    reply = {"type": "reply", "reply": {"id": "yes", "title": "Sim"}}
    _interactive(given, "button", {"buttons": [reply]})


def _only_official(given: Setting) -> None:
    parameters = {
        "flow_message_version": "3", "flow_id": "1", "flow_cta": "Abrir", "flow_token": "x",
        "flow_action": "navigate", "flow_action_payload": {"screen": "A"},
    }  # fmt: skip
    _interactive(given, "flow", {"name": "flow", "parameters": parameters})


def _template_by_fallback(given: Setting) -> None:
    given.template()
    _breaker_open(given)


def _flow_template_by_fallback(given: Setting) -> None:
    """A send need not name the button of a form."""
    button = {"type": "FLOW", "text": "Abrir", "flow_id": "1"}
    given.template(
        components=[
            {"type": "BODY", "text": "Seu pedido saiu."},
            {"type": "BUTTONS", "buttons": [button]},
        ]
    )
    _breaker_open(given)


def _hidden_number(given: Setting) -> None:
    conversation = contacts.conversation_with(given.channel, user_id="123456789012345@lid")
    given.message["conversation"] = conversation


# The situation; would, route, reason and rule; what Meta charges for.
SITUATIONS: list[tuple[Callable[[Setting], None], tuple[Any, ...], str | None]] = [
    (_open, ("send", "official", "first", "first"), "service"),
    (_template, ("send", "official", "first", "first"), "utility"),
    (_stopped_marketing, ("reject", None, "opted_out", "opted_out"), None),
    (_stopped_marketing_only, ("send", "official", "first", "first"), "utility"),
    (_buttons, ("fall_back", "wwebjs", "131047", "refused"), None),
    (_only_official, ("reject", None, "131047", "fallback_refused"), None),
    (_template_by_fallback, ("fall_back", "wwebjs", "breaker_open", "breaker_open"), None),
    (_flow_template_by_fallback, ("reject", None, "official_only", "fallback_refused"), None),
    (_closed, ("fall_back", "wwebjs", "131047", "refused"), None),
    (_closed_without_fallback, ("reject", None, "131047", "no_fallback"), None),
    (_new_chat_block, ("reject", None, "131047", "new_chats_stopped"), None),
    (_no_new_chats, ("reject", None, "131047", "new_chat_limit"), None),
    (_full_quota, ("wait", None, "waiting_pace", "waiting_pace"), None),
    (_disconnected, ("wait", None, "waiting_fallback", "waiting_fallback"), None),
    (_another_phone, ("wait", None, "waiting_fallback", "waiting_fallback"), None),
    (_breaker_open, ("fall_back", "wwebjs", "breaker_open", "breaker_open"), None),
    (_behind_another, ("wait", None, "waiting_turn", "waiting_turn"), None),
    (_burst, ("wait", None, "waiting_recipient", "waiting_recipient"), None),
    (_scheduled, ("wait", None, "waiting_schedule", "waiting_schedule"), None),
    (_hidden_number, ("fall_back", "wwebjs", "no_address", "refused"), None),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("arrange", "expected", "category"), SITUATIONS)
def test_what_is_said_before_is_what_happens(
    wired: Channel, graph: Provider, wwebjs: Provider, arrange: Any, expected: Any, category: Any
) -> None:
    graph.simulator.settings.enforces_window = True  # type: ignore[attr-defined]
    given = Setting(wired, graph, wwebjs)
    arrange(given)
    wired.refresh_from_db()
    where = {} if "conversation" in given.message else {"channel": wired, "to": CUSTOMER}
    asks_for_changes = arrange in (_buttons, _template_by_fallback)
    stored, asked = Message.objects.count(), len(graph.sends()) + len(wwebjs.sends())

    said = preview(user=None, **where, **given.message)

    assert (said.would, said.route, said.reason, said.rule) == expected
    assert bool(said.changes) == asks_for_changes
    assert (said.charge.category if said.charge else None) == category
    assert (Message.objects.count(), len(graph.sends()) + len(wwebjs.sends())) == (stored, asked)

    _assume_busy(wired, arrange)
    message = sending.accept_message(user=None, **where, **given.message).message
    deliver_due()
    message.refresh_from_db()
    _compare(said, message)


def _assume_busy(channel: Channel, arrange: Any) -> None:
    """A worker asks for a customer's limit only once it has sent many messages itself."""
    if arrange is _burst:
        from messaging.delivery import rate_limits

        conversation = Conversation.objects.get(channel=channel)
        for _ in range(policy.RECIPIENT_BURST):
            rate_limits._conversation_starts.add(conversation.pk, size=15)


def _compare(said: Verdict, message: Message) -> None:
    made = stored_attempts(message)
    if said.would in ("send", "fall_back"):
        assert (message.status, message.route) == ("sent", said.route)
        assert made[-1].rule == said.rule
        assert made[-1].changes == list(said.changes)
    else:
        assert message.decision == said.rule
        assert (message.next_attempt_at is not None) == (said.would == "wait")
        assert message.status in ("queued", "rejected")
    refused = [(one.route, one.error_code) for one in made if one.outcome != "accepted"]
    assert refused == [(one.route, one.code) for one in said.refusals]
    # The same words in the history.
    with translation.override("en"):
        shown = {
            str(policy.reason_text(message.decision)),
            str(policy.reason_text(made[-1].rule if made else "")),
        }
        shown |= {problem(one).partition(" (")[0] for one in made}
        assert {reason_text(said.reason), reason_text(said.rule)} <= shown


@pytest.mark.django_db
def test_a_paused_template_is_refused_before_it_is_stored(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    given = Setting(wired, graph, wwebjs)
    given.template(status="PAUSED")

    said = preview(user=None, channel=wired, to=CUSTOMER, **given.message)

    assert (said.would, said.route, said.reason) == ("reject", None, "132015")
    MessageTemplate.objects.update(status="PENDING")
    said = preview(user=None, channel=wired, to=CUSTOMER, **given.message)
    assert (said.would, said.reason) == ("reject", "template_pending")
    assert reason_text(said.reason) == str(UNUSABLE["PENDING"])
    with pytest.raises(ValidationError) as invalid:
        preview(user=None, channel=wired, to="123", **given.message)
    assert list(invalid.value.message_dict) == ["to"]
    change_channel(wired, active=False)
    assert preview(user=None, channel=wired, to=CUSTOMER, text="Olá").reason == "inactive"
    with pytest.raises(ValidationError) as invalid:
        change_channel(wired, active=True)
        preview(user=None, channel=wired, to="123", text="Olá")
    assert list(invalid.value.message_dict) == ["to"]


@pytest.mark.django_db
def test_a_reaction_to_what_only_the_fallback_has_is_not_sent_by_the_official_api(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    conversation = Setting(wired, graph, wwebjs).wrote(dt.timedelta(hours=1))
    target = Message.objects.create(
        conversation=conversation, direction="in", status="", type="text", text="Olá",
        provider_message_id="wamid.0", created_at=timezone.now(),
    )  # fmt: skip
    content = {"message": str(target.pk), "emoji": "👍"}
    for id_, expected in (("wamid.1", "send"), ("false_5511988887777@c.us_3EB0C7", "fall_back")):
        Message.objects.update(provider_message_id=id_)
        said = preview(user=None, conversation=conversation, type="reaction", content=content)
        assert said.would == expected, (id_, said)


@pytest.mark.django_db
def test_a_verdict_needs_few_queries(wired: Channel, graph: Provider, wwebjs: Provider) -> None:
    # A page shows it within 50 ms; queries are nearly all of that.
    conversation = Setting(wired, graph, wwebjs).wrote(dt.timedelta(hours=25))
    with CaptureQueriesContext(database) as queries:
        preview(user=None, conversation=conversation, text="Olá")
    assert len(queries) <= 18


@pytest.mark.django_db
def test_the_free_messages_of_a_month_are_counted_to_the_end(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "FREE_SERVICE_MESSAGES", 2)
    now = timezone.now()
    message = accept(channel)
    for number, (pricing, receipt) in enumerate(
        [("marketing:regular", "read")] * 4
        + [("service:free_customer_service", "read"), ("service:regular", "sent")]
    ):
        DeliveryAttempt.objects.create(
            message=message, number=number + 1, connection=channel.primary, outcome="accepted",
            pricing=pricing, receipt=receipt, started_at=now,
        )  # fmt: skip

    def is_free() -> bool:
        costs.count_service_messages()
        return costs.free_service_left(Channel.objects.get().primary, timezone.now())

    assert is_free()
    DeliveryAttempt.objects.filter(receipt="sent").update(receipt="delivered")
    assert not is_free()
    primary = Channel.objects.get().primary
    assert costs.free_service_left(primary, now + dt.timedelta(days=32)), "a new month"


# -- charges ---------------------------------------------------------------------------------------

HOUR = dt.timedelta(hours=1)
CHARGES = [
    # template, category, window, free entry, free messages left: what Meta charges for
    (False, "", NOW + HOUR, None, True, Charge("service", True)),
    (False, "", NOW + HOUR, None, False, Charge("service", False)),
    (False, "", NOW + HOUR, NOW + HOUR, False, Charge("service", True)),
    (True, "utility", NOW + HOUR, None, True, Charge("utility", False)),
    (True, "utility", None, None, False, Charge("utility", False)),
    (True, "marketing", NOW + HOUR, NOW + HOUR, False, Charge("marketing", True)),
    (True, "authentication", None, NOW - HOUR, False, Charge("authentication", False)),
    (True, "", None, None, False, None),
]


@pytest.mark.parametrize(
    ("is_template", "category", "window", "entry", "left", "expected"), CHARGES
)
def test_what_meta_charges_for(
    is_template: bool, category: str, window: Any, entry: Any, left: bool, expected: Any
) -> None:
    situation = Situation(is_template, category, window, entry, left)
    message = policy.MessageFacts(1, "official", NOW, type="template" if is_template else "text")
    rules = policy.ChannelRules(
        active=True, fallbacks=(policy.Sender("wwebjs", 2),), official_retries=1,
        confirm_seconds=60, on_unconfirmed="hold", fallback_max_age=HOUR,
        primary=policy.Sender("official", 1),
    )  # fmt: skip

    said = verdict(message, rules, policy.Limits(), situation, now=NOW)

    assert (said.would, said.charge) == ("send", expected)
    # What follows if Meta refuses it after all is said as well.
    assert said.then is not None
    assert (said.then.would, said.then.route) == ("fall_back", "wwebjs")
    down = Situation(True, category, routes={("official", 1): RouteState(unavailable="timeout")})
    assert verdict(message, rules, policy.Limits(), down, now=NOW).would == "wait"


def test_every_reason_has_a_sentence() -> None:
    codes = [*policy.REASONS, "131047", "131062", "132015", "132016", "132001", "no_address"]
    for code in codes:
        assert reason_text(code) not in ("", code)
    assert error_codes.lookup("131062").known
