"""Demo data: a login, channels that use the simulated providers, and some history."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.utils import timezone

from channels_app.channels import save_channel
from channels_app.models import Channel, Connection, Provider
from messaging import contacts, demo_picture, demo_settings
from messaging.delivery import statuses
from messaging.media import files
from messaging.models import Conversation, DeliveryAttempt, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True, slots=True)
class Line:
    """One message of the history; `ago` is in minutes, `picture` the name of its file."""

    ago: int
    text: str
    status: statuses.Status | None = None  # None: received
    route: statuses.Route = statuses.Route.OFFICIAL
    rejection: str = ""
    picture: str = ""
    by_program: bool = False


_DAY = 24 * 60
_OUTSIDE_WINDOW = "More than 24 hours since the customer's last message"
HISTORY: dict[tuple[str, str], list[Line]] = {
    ("+5511988880001", "Paciente das 14h"): [
        Line(2 * _DAY + 50, "Bom dia! Queria remarcar a consulta de quinta."),
        Line(
            2 * _DAY + 44,
            "Claro! Temos sexta às 14h ou segunda às 9h. Qual prefere?",
            statuses.Status.READ,
        ),
        Line(2 * _DAY + 40, "Sexta às 14h, por favor."),
        Line(2 * _DAY + 38, "Marcado: sexta-feira, 14h. Até lá!", statuses.Status.READ),
        Line(
            95,
            "Lembrete: sua consulta é hoje às 14h. Pode confirmar?",
            statuses.Status.DELIVERED,
            statuses.Route.WWEBJS,
            "131047",
            by_program=True,
        ),
        Line(61, "Confirmado, obrigado!"),
    ],
    ("+5511988880002", "Pedido 1042"): [
        Line(_DAY + 300, "Oi, meu pedido já saiu?"),
        Line(_DAY + 290, "Saiu agora! Chega amanhã até as 18h.", statuses.Status.READ),
        Line(_DAY + 285, "Perfeito 👍"),
        Line(180, "Seu pedido chegou bem?", statuses.Status.REJECTED, rejection="131050"),
    ],
    ("+5531988880003", "Oficina, orçamento"): [
        Line(400, "Vocês trocam pastilha de freio no sábado?"),
        Line(390, "Trocamos sim, até as 12h. Quer que eu reserve?", statuses.Status.DELIVERED),
    ],
    ("+5511988880004", "Orçamento PC gamer"): [
        Line(_DAY + 500, "Boa tarde! Quanto fica um PC gamer completo?"),
        Line(
            212,
            "Oi! Montamos o seu:",
            statuses.Status.READ,
            statuses.Route.WWEBJS,
            "131047",
        ),
        Line(
            211,
            "Sai por R$ 4.990, à vista.",
            statuses.Status.READ,
            statuses.Route.WWEBJS,
            "131047",
            picture="pc-gamer-completo.png",
        ),
    ],
}


def make(*, graph_url: str, wwebjs_url: str) -> None:
    """Create the demo data, or update its addresses. Safe to call at every start."""
    with transaction.atomic():
        user_model = get_user_model()
        user, created = user_model.objects.get_or_create(
            username=demo_settings.LOGIN, defaults={"is_staff": True, "is_superuser": True}
        )
        if created:
            user.set_password(demo_settings.PASSWORD)
            user.save()
        settings = {"graph_url": graph_url, "wwebjs_url": wwebjs_url}
        channel = Channel.objects.filter(
            cloud__phone_number_id=demo_settings.PHONE_NUMBER_ID,
            kind=Provider.OFFICIAL,
        ).first()
        created = channel is None
        if channel is None:
            channel = Channel(
                **{
                    "kind": Provider.OFFICIAL,
                    "phone_number_id": demo_settings.PHONE_NUMBER_ID,
                    "name": "Oficial (demonstração)",
                    "phone_number": demo_settings.OWN_NUMBER,
                    "business_account_id": "102290129340398",
                    "access_token": demo_settings.ACCESS_TOKEN,
                    "app_secret": demo_settings.APP_SECRET,
                    "verify_token": demo_settings.VERIFY_TOKEN,
                    "fallback": Provider.WWEBJS,
                    "wwebjs_api_key": demo_settings.WWEBJS_API_KEY,
                    "wwebjs_session_id": demo_settings.WWEBJS_SESSION,
                }
            )
        for name, value in settings.items():
            setattr(channel, name, value)
        save_channel(channel)
        # The demo's fallback intentionally has its own number.
        own = demo_settings.FALLBACK_NUMBER.removeprefix("+")
        sessions = Connection.objects.filter(channel=channel, provider=Provider.WWEBJS)
        sessions.filter(confirmed_number="").update(confirmed_number=own)
        if created:
            _create_history(channel, user)


def _create_history(channel: Channel, user: User) -> None:
    now = timezone.now()
    for (number, name), lines in HISTORY.items():
        conversation = contacts.conversation_with(channel, phone_number=number, name=name)
        for line in lines:
            _create_message(conversation, line, now - dt.timedelta(minutes=line.ago), user)
        received = [line.ago for line in lines if line.status is None]
        Conversation.objects.filter(pk=conversation.pk).update(
            last_message_at=now - dt.timedelta(minutes=min(line.ago for line in lines)),
            last_inbound_at=now - dt.timedelta(minutes=min(received)),
            unread_count=1 if lines[-1].status is None else 0,
        )


def _create_message(conversation: Conversation, line: Line, at: dt.datetime, user: User) -> None:
    message = Message(
        conversation=conversation,
        direction=Message.Direction.IN if line.status is None else Message.Direction.OUT,
        text=line.text,
        status="" if line.status is None else line.status,
        created_at=at,
    )
    if line.status is None:
        message.provider_message_id = f"demo.{message.pk}"
        message.save()
        return
    if line.picture:
        upload = SimpleUploadedFile(line.picture, demo_picture.png())
        message.media = files.store_upload(upload, user=user)
        message.type = files.suggested_type(message.media)
        message.content = {"media": str(message.media.pk), "caption": line.text}
        message.text = ""
    if not line.by_program:
        message.created_by = user
    is_rejected = line.status == statuses.Status.REJECTED
    message.route = line.route
    message.round_started_at = at
    message.decision = "never_fall_back" if is_rejected else ""
    message.error_code = line.rejection
    message.error_title = (
        _OUTSIDE_WINDOW if line.rejection == "131047" else "The customer opted out"
    )
    if not line.rejection:
        message.error_title = ""
    message.save()
    attempts = [(statuses.Route.OFFICIAL, line.rejection)] if line.rejection else []
    if not is_rejected:
        attempts.append((line.route, ""))
    for number, (route, code) in enumerate(attempts, start=1):
        DeliveryAttempt.objects.create(
            message=message,
            number=number,
            connection=Connection.objects.stored(conversation.channel, route),
            rule="first" if number == 1 else "refused",
            outcome=statuses.Outcome.REJECTED if code else statuses.Outcome.ACCEPTED,
            receipt="" if code or line.status == statuses.Status.SENT else line.status,
            error_code=code,
            error_title=message.error_title if code else "",
            provider_message_id="" if code else f"demo.{message.pk}",
            started_at=at,
            finished_at=at + dt.timedelta(seconds=1),
        )
