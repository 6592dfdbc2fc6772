"""Choose a template, fill it in and send it, in the dialog of a conversation or a new message."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.generic import View
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app.incidents import reason_text
from channels_app.models import Channel, MessageTemplate
from channels_app.providers import media_types
from channels_app.providers.cloud import templates
from messaging import template_selectors, template_words
from messaging.delivery import accept
from messaging.models import Conversation
from messaging.views.responses import get_conversation, render_bubble

MOST_SHOWN = 100
_PLACE = ("latitude", "longitude", "name", "address")


@dataclass(frozen=True, slots=True)
class Recipient:
    """To whom the template goes: a conversation, or a number on a channel."""

    channel: Channel
    conversation: Conversation | None = None
    to: str = ""

    @classmethod
    def read(cls, data: QueryDict) -> Recipient:
        """Return whom the request names, or raise Http404."""
        if (pk := data.get("conversation", "")).isdecimal():
            conversation = get_conversation(int(pk))
            return cls(conversation.channel, conversation)
        channel = data.get("channel", "")
        if not channel.isdecimal():
            raise Http404
        return cls(get_object_or_404(Channel, pk=channel, active=True), to=data.get("to", ""))

    @property
    def values(self) -> list[tuple[str, str]]:
        """The fields by which a request names it."""
        if self.conversation is not None:
            return [("conversation", str(self.conversation.pk))]
        return [("channel", str(self.channel.pk)), ("to", self.to)]

    @property
    def query(self) -> str:
        return urlencode(self.values)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to know before sending. `tone` "failing": it cannot be sent."""

    tone: str
    label: Any
    meaning: Any


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the form. `accept`: the types of a file; `parts`: those of a location."""

    field: templates.Field
    value: Any = None
    error: str = ""

    @property
    def key(self) -> str:
        return self.field.key

    @property
    def id(self) -> str:
        return f"template-{self.field.key.replace('.', '-')}"

    @property
    def accept(self) -> str:
        return ",".join(sorted(media_types.LIMITS[self.field.kind].mime_types))

    @property
    def parts(self) -> list[tuple[str, str, str]]:
        """The name, label and value of each part of a location."""
        labels = (_("Latitude"), _("Longitude"), _("Name of the place"), _("Address"))
        value = self.value or {}
        return [
            (name, label, value.get(name, "")) for name, label in zip(_PLACE, labels, strict=True)
        ]


class TemplatePickerView(StaffPermissionRequiredMixin, View):
    """The dialog's list of templates, with a search."""

    permissions = ("messaging.view_message", "messaging.add_message")

    def get(self, request: HttpRequest) -> HttpResponse:
        recipient = Recipient.read(request.GET)
        search = request.GET.get("search", "")[:100]
        found = template_selectors.to_pick(recipient.channel, search=search)
        context = {
            "recipient": recipient,
            "search": search,
            "templates": found[:MOST_SHOWN],
            "more": len(found) > MOST_SHOWN,
        }
        return render(request, "messaging/_template_picker.html", context)


class SendTemplateView(StaffPermissionRequiredMixin, View):
    """The dialog's form: GET shows it, POST sends the template.

    After a POST in a conversation the response is the message's bubble; else the browser goes to
    the conversation. A rejected form gets its errors with the status 400.
    """

    permissions = ("messaging.view_message", "messaging.add_message")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        recipient = Recipient.read(request.GET)
        template = _template(recipient, pk)
        context = {
            **_form_context(template, {}, {}),
            "recipient": recipient,
            "notices": list(_notices(template)),
            "sendable": not template.definition.unusable,
            "errors": [_("It cannot be sent now.")] if template.definition.unusable else [],
            "key": uuid.uuid4(),
        }
        return render(request, "messaging/_template_form.html", context)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        recipient = Recipient.read(request.POST)
        template = _template(recipient, pk)
        values = _values(template.definition, request.POST)
        try:
            components = templates.fill_values(template.definition, values)
            accepted = accept.accept_message(
                channel=recipient.channel,
                to=recipient.to,
                conversation=recipient.conversation,
                user=user_of(request),
                type="template",
                content={
                    "name": template.name,
                    "language": {"code": template.language},
                    "components": components,
                },
                idempotency_key=request.POST.get("key", "")[:255],
            )
        except templates.InvalidParameters as error:
            return _rejected(request, recipient, template, values, error.errors)
        except accept.IdempotencyConflict:
            text = _("It was sent already, with other values. Close this and look at the messages.")
            return _rejected(request, recipient, template, values, {}, others=[text])
        except ValidationError as error:
            others = error.message_dict
            to = others.pop("to", [])
            texts = [text for found in others.values() for text in found]
            return _rejected(request, recipient, template, values, {}, to=to, others=texts)
        message = accepted.message
        if recipient.conversation is None:
            page = reverse("messaging:conversation", args=[message.conversation_id])
            return HttpResponseClientRedirect(page)
        response = render_bubble(request, message)
        return trigger_client_event(response, "dialog:close", {"target": "body"})


class CheckTemplateView(StaffPermissionRequiredMixin, View):
    """The preview and the errors of the form, while a person types. Nothing is stored."""

    permissions = ("messaging.view_message", "messaging.add_message")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        recipient = Recipient.read(request.POST)
        template = _template(recipient, pk)
        values = _values(template.definition, request.POST)
        errors: dict[str, str] = {}
        try:
            templates.fill_values(template.definition, values)
        except templates.InvalidParameters as error:
            # What is not filled in yet is no error yet.
            errors = {key: text for key, text in error.errors.items() if key in values}
        context = {**_form_context(template, values, errors), "recipient": recipient}
        return render(request, "messaging/_template_checked.html", context)


def _template(recipient: Recipient, pk: int) -> MessageTemplate:
    account = recipient.channel.business_account_id
    return get_object_or_404(MessageTemplate, pk=pk, business_account_id=account, deleted_at=None)


def _values(definition: templates.Definition, data: QueryDict) -> dict[str, Any]:
    """Return what was entered, by the keys of the fields; an empty input has no entry."""
    found = ((one.key, _value(one, data)) for one in templates.fields(definition))
    return {key: value for key, value in found if value not in (None, "", {})}


def _value(one: templates.Field, data: QueryDict) -> Any:
    name = f"field-{one.key}"
    if one.kind == "location":
        parts = {part: data.get(f"{name}-{part}", "").strip() for part in _PLACE}
        return {part: value for part, value in parts.items() if value}
    value = data.get(name, "").strip()
    if one.kind in templates.MEDIA_KINDS:
        filename = data.get(f"{name}-filename", "").strip()
        extra = {"filename": filename} if filename and one.kind == "document" else {}
        return {"media": value, **extra} if value else None
    if one.kind == "expiration":
        return _milliseconds(value)
    return value


def _milliseconds(value: str) -> int | str:
    """Return a local time as Meta's milliseconds; what is no time stays, for the check."""
    try:
        moment = parse_datetime(value)
    except ValueError:
        return value
    if moment is None:
        return value
    return int(timezone.make_aware(moment).timestamp() * 1000)


def _notices(template: MessageTemplate) -> Iterator[Notice]:
    """Yield what a person must know before sending this template."""
    definition = template.definition
    status = template_words.status(definition.status)
    if definition.unusable:
        yield Notice("failing", status.label, status.meaning or definition.unusable)
        return
    if status.meaning:
        yield Notice("warning", status.label, status.meaning)
    quality = template_words.quality(definition.quality)
    if quality.meaning:
        yield Notice("warning", quality.label, quality.meaning)
    for incident in template_selectors.category_changes(template):
        yield Notice("warning", "", reason_text.describe(incident.reason, incident.detail))
    if definition.category == templates.MARKETING:
        yield Notice(
            "",
            template_words.category(definition.category).label,
            _("Customers who stopped marketing messages do not receive it."),
        )


def _form_context(
    template: MessageTemplate, values: dict[str, Any], errors: dict[str, str]
) -> dict[str, Any]:
    definition = template.definition
    fields = templates.fields(definition)
    known = {one.key for one in fields}
    return {
        "template": template,
        "rendered": templates.render_values(definition, values),
        "fields": [Input(one, values.get(one.key), errors.get(one.key, "")) for one in fields],
        "errors": [text for key, text in errors.items() if key not in known],
    }


def _rejected(
    request: HttpRequest,
    recipient: Recipient,
    template: MessageTemplate,
    values: dict[str, Any],
    errors: dict[str, str],
    *,
    to: Sequence[str] = (),
    others: Sequence[str] = (),
) -> HttpResponse:
    """Return the errors of a form that was not sent."""
    context = _form_context(template, values, errors)
    context |= {"errors": [*context["errors"], *others], "recipient": recipient, "to_errors": to}
    return render(request, "messaging/_template_checked.html", context, status=400)
