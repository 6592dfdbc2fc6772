from __future__ import annotations

from functools import cache
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from channels_app.models import Channel
from channels_app.providers import engines, error_codes
from channels_app.providers.events import CallStatus
from messaging import content as contents
from messaging import control, reachability, words
from messaging.delivery import downgrade, statuses
from messaging.delivery.schedule import Times
from messaging.delivery.statuses import Route
from messaging.delivery.verdict import WINDOW
from messaging.media import files
from messaging.models import (
    CallAttempt,
    Contact,
    ContactAddress,
    Conversation,
    DeliveryAttempt,
    Media,
    Message,
)


class ErrorSerializer(serializers.Serializer[Message]):
    """The provider's error that explains why the first route did not send a message."""

    code = serializers.CharField(source="error_code")
    title = serializers.SerializerMethodField()
    detail = serializers.SerializerMethodField()

    def get_title(self, message: Message) -> str:
        return error_codes.stored_title(
            message.error_code, message.error_title, message.error_detail
        )

    def get_detail(self, message: Message) -> str:
        return error_codes.stored_detail(message.error_detail)


class ChangeSerializer(serializers.Serializer[Any]):
    """One change of a message for a route: its code, and its sentence."""

    code = serializers.CharField()
    text = serializers.CharField()


class SentAsSerializer(serializers.Serializer[Any]):
    """What was sent in place of a message: its type, and its text or caption."""

    type = serializers.CharField()
    text = serializers.CharField()


class ChosenSerializer(serializers.Serializer[Any]):
    """The option that the customer's text names, of our message with numbered options."""

    message = serializers.UUIDField()
    id = serializers.CharField()
    title = serializers.CharField()


class AttemptSerializer(serializers.ModelSerializer[DeliveryAttempt]):
    route = serializers.ChoiceField(choices=engines.choices())
    error_title = serializers.SerializerMethodField()
    error_detail = serializers.SerializerMethodField()
    changes = serializers.SerializerMethodField()
    sent_as = serializers.SerializerMethodField()

    @extend_schema_field(ChangeSerializer(many=True))
    def get_changes(self, attempt: DeliveryAttempt) -> Any:
        """How the message was changed for this route; none if it was sent as it is."""
        texts = downgrade.describe(attempt.changes)
        return [
            {"code": code, "text": text} for code, text in zip(attempt.changes, texts, strict=True)
        ]

    @extend_schema_field(SentAsSerializer(allow_null=True))
    def get_sent_as(self, attempt: DeliveryAttempt) -> Any:
        """The message that was sent in place of the original one; null if it was sent as it is."""
        if not attempt.sent_type:
            return None
        return {"type": attempt.sent_type, "text": attempt.sent_text}

    def get_error_title(self, attempt: DeliveryAttempt) -> str:
        return error_codes.stored_title(
            attempt.error_code, attempt.error_title, attempt.error_detail
        )

    def get_error_detail(self, attempt: DeliveryAttempt) -> str:
        return error_codes.stored_detail(attempt.error_detail)

    class Meta:
        model = DeliveryAttempt
        fields = [
            "number", "route", "outcome", "error_code", "error_title", "error_detail",
            "provider_message_id", "receipt", "pricing", "rule", "changes", "sent_as",
            "started_at", "finished_at", "confirmed_by",
        ]  # fmt: skip


class MediaSerializer(serializers.ModelSerializer[Media]):
    """An uploaded or received file. A received one is `waiting` until it has been fetched."""

    type = serializers.SerializerMethodField()

    class Meta:
        model = Media
        fields = ["id", "state", "mime_type", "size", "filename", "type", "sha256", "error_code"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=contents.MEDIA_TYPES))
    def get_type(self, media: Media) -> str:
        """The type of message that suits the file best."""
        return files.suggested_type(media)


class UploadSerializer(serializers.Serializer[Any]):
    file = serializers.FileField(allow_empty_file=True, max_length=1000)


class ContextSerializer(serializers.Serializer[Any]):
    message = serializers.UUIDField(help_text="Our ID of the quoted message.")


class QuoteSerializer(serializers.Serializer[Any]):
    """The quoted message: our ID of it, if it is stored here, the provider's, and its text."""

    message = serializers.UUIDField(allow_null=True)
    provider_message_id = serializers.CharField()
    text = serializers.CharField()


class ReactionSerializer(serializers.Serializer[Any]):
    """A person's reaction. `by` is the person's number or user ID, or "us"."""

    emoji = serializers.CharField()
    by = serializers.CharField()
    name = serializers.CharField()
    at = serializers.DateTimeField()


class VoteSerializer(serializers.Serializer[Any]):
    """A person's vote in a poll."""

    chosen = serializers.ListField(child=serializers.CharField())
    by = serializers.CharField()
    name = serializers.CharField()
    at = serializers.DateTimeField()


class FileObjectSerializer(serializers.Serializer[Any]):
    """A file to send, by link or by the ID of an upload, with its caption and name."""

    link = serializers.URLField(required=False)
    media = serializers.UUIDField(required=False, help_text="The ID of our copy of the file.")
    caption = serializers.CharField(required=False)
    filename = serializers.CharField(required=False)


class TimeWithZone(serializers.DateTimeField):
    """A time with its offset from UTC: whose time would "9:00" be?"""

    def enforce_timezone(self, value: Any) -> Any:
        """Reject a time without an offset."""
        if timezone.is_naive(value):
            raise serializers.ValidationError(
                _("Add the time zone, for example 2026-12-01T09:00:00-03:00."), "naive"
            )
        return super().enforce_timezone(value)


class MessageSerializer(serializers.ModelSerializer[Message]):
    """A message. Types other than text have an object named after the type.

    `content` is that object as sent or received, with the provider's additional fields.
    """

    channel = serializers.IntegerField(source="conversation.channel_id")
    to = serializers.SerializerMethodField()
    route = serializers.ChoiceField(choices=list(engines.ENGINES), allow_null=True)
    icon = serializers.ChoiceField(choices=[*statuses.Icon, ""])
    # "": the rule of its channel.
    on_undelivered = serializers.ChoiceField(choices=[*Channel.OnUndelivered.choices, ("", "")])
    error = serializers.SerializerMethodField()
    context = serializers.SerializerMethodField()  # type: ignore[assignment]
    summary = serializers.SerializerMethodField()
    forwarded = serializers.SerializerMethodField()
    referral = serializers.SerializerMethodField()
    chosen = serializers.SerializerMethodField()
    automatic = serializers.SerializerMethodField()
    reactions = serializers.SerializerMethodField()
    votes = serializers.SerializerMethodField()
    media = MediaSerializer(allow_null=True)
    attempts = AttemptSerializer(many=True)

    class Meta:
        model = Message
        fields = [
            "id", "channel", "conversation", "direction", "to", "type", "text", "summary",
            "content", "media", "context", "forwarded", "referral", "chosen", "automatic",
            "reactions", "votes", "edited_at", "earlier_texts", "revoked_at", "status", "route",
            "icon", "error",
            "client_reference", "sent_outside", "echo_of", "decision", "next_attempt_at",
            "send_at", "deliver_by", "on_undelivered", "overdue_at",
            "created_at", "updated_at",
            "attempts",
        ]  # fmt: skip
        read_only_fields = fields

    def to_representation(self, message: Message) -> dict[str, Any]:
        data: dict[str, Any] = super().to_representation(message)
        file = str(message.media_id or "")
        named = contents.named_object(message.type, message.content, media=file)
        return data if named is None else {**data, message.type: named}

    def get_to(self, message: Message) -> str:
        """The customer's number for a sent message, ours for a received one."""
        if message.direction == Message.Direction.OUT:
            contact = message.conversation.contact
            return contact.phone_number or contact.user_id or ""
        return message.conversation.channel.phone_number

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_error(self, message: Message) -> Any:
        """Why it was not sent or, for a received one, why its content is missing."""
        return ErrorSerializer(message).data if message.error_code else message.context.get("error")

    @extend_schema_field(QuoteSerializer(allow_null=True))
    def get_context(self, message: Message) -> Any:
        quoted = message.context.get("quoted") or {}
        if message.reply_to is None and not quoted:
            return None
        id_, text = quoted.get("id", ""), quoted.get("text", "")
        if (stored := message.reply_to) is not None:
            id_, text = id_ or stored.provider_message_id, stored.text
        return {
            "message": None if stored is None else str(stored.pk),
            "provider_message_id": id_,
            "text": text,
        }

    def get_summary(self, message: Message) -> str:
        """The message in one line, in the language of the request."""
        filename = "" if message.media is None else message.media.filename
        return words.summary(message.type, message.text, message.content, filename=filename)

    @extend_schema_field(serializers.ChoiceField(["once", "often"], allow_null=True))
    def get_forwarded(self, message: Message) -> Any:
        """Whether it was forwarded to us; "often": more than five times before."""
        return message.context.get("forwarded")

    @extend_schema_field({"type": "object", "nullable": True, "additionalProperties": {}})
    def get_referral(self, message: Message) -> Any:
        """The ad or post from which the customer came, in Meta's form."""
        return message.context.get("referral")

    @extend_schema_field(ChosenSerializer(allow_null=True))
    def get_chosen(self, message: Message) -> Any:
        """The button or row that the customer chose by answering with its number or its words."""
        return message.context.get("chosen")

    @extend_schema_field(serializers.ChoiceField(["greeting", "away"], allow_null=True))
    def get_automatic(self, message: Message) -> Any:
        """Which automatic answer of the channel it is; null: none."""
        return message.context.get("automatic")

    @extend_schema_field(ReactionSerializer(many=True))
    def get_reactions(self, message: Message) -> Any:
        return [one for one in message.reactions if one.get("emoji")]

    @extend_schema_field(VoteSerializer(many=True))
    def get_votes(self, message: Message) -> Any:
        return [one for one in message.votes if one.get("chosen")]


@cache
def _of_messages() -> MessageSerializer:
    return MessageSerializer()


def represent(message: Message) -> dict[str, Any]:
    """Return a message as REST shows it.

    With fields that are built once: to build them takes longer than to read them.
    """
    return _of_messages().to_representation(message)


class MessageSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Describes the object named after a message's type, which is not a model field."""

    target_class = MessageSerializer

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        file = auto_schema.resolve_serializer(FileObjectSerializer, direction).ref
        free = {"type": "object", "additionalProperties": {}}
        schema["properties"] |= dict.fromkeys(contents.MEDIA_TYPES, file)
        schema["properties"] |= dict.fromkeys(contents.OBJECT_TYPES, free)
        schema["properties"]["contacts"] = {"type": "array", "items": free}
        return schema


class NewMessageSerializer(serializers.Serializer[Any]):
    """A message to send. Types other than text require an object named after the type.

    A reaction identifies its message by `message`, our ID, or by `message_id`, the provider's.
    """

    channel = serializers.PrimaryKeyRelatedField(
        queryset=Channel.objects.all(),
        required=False,
        error_messages={
            "does_not_exist": _("There is no such channel."),
            "incorrect_type": _("Enter the ID of a channel."),
        },
    )
    to = serializers.CharField(
        max_length=150,
        required=False,
        help_text="A phone number, or the address of a customer who has written before.",
    )
    conversation = serializers.PrimaryKeyRelatedField(
        queryset=Conversation.everything.all(),
        required=False,
        help_text="Instead of `to`, and needed for a customer without a phone number.",
        error_messages={
            "does_not_exist": _("There is no such conversation."),
            "incorrect_type": _("Enter the ID of a conversation."),
        },
    )
    type = serializers.CharField(default="text", max_length=40)
    text = serializers.CharField(
        default="", allow_blank=True, trim_whitespace=False, max_length=contents.MAX_TEXT
    )
    preview_url = serializers.BooleanField(
        required=False, help_text="Of a text: whether its first link is shown with a preview."
    )
    client_reference = serializers.CharField(default="", allow_blank=True, max_length=255)
    send_at = TimeWithZone(
        default=None,
        help_text="Nothing is sent before this time. With its time zone, at most a year ahead.",
    )
    deliver_by = TimeWithZone(
        default=None,
        help_text="From this time on it is not sent any more. If it was accepted by then, but not"
        " delivered, `on_undelivered` decides.",
    )
    on_undelivered = serializers.ChoiceField(
        Channel.OnUndelivered.choices,
        default="",
        help_text="What follows if it is not delivered by `deliver_by`. Without it, the channel's"
        " rule applies.",
    )
    context = ContextSerializer(required=False)  # type: ignore[assignment]
    image = serializers.JSONField(required=False)
    video = serializers.JSONField(required=False)
    audio = serializers.JSONField(required=False)
    document = serializers.JSONField(required=False)
    sticker = serializers.JSONField(required=False)
    location = serializers.JSONField(required=False)
    contacts = serializers.JSONField(required=False)
    reaction = serializers.JSONField(required=False)
    template = serializers.JSONField(required=False)
    interactive = serializers.JSONField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Select the object of the type. `accept_message` validates it, as for every sender."""
        context = attrs.get("context")
        if "conversation" not in attrs:
            missing = [name for name in ("channel", "to") if name not in attrs]
            if missing:
                required = self.fields["type"].error_messages["required"]
                raise serializers.ValidationError(dict.fromkeys(missing, required), "required")
        return {
            "channel": attrs.get("channel"),
            "to": attrs.get("to", ""),
            "conversation": attrs.get("conversation"),
            "type": attrs["type"],
            "text": attrs["text"],
            "content": _content(attrs),
            "reply_to": str(context["message"]) if context else None,
            "client_reference": attrs["client_reference"],
            "times": Times(attrs["send_at"], attrs["deliver_by"], attrs["on_undelivered"]),
        }


def _content(attrs: dict[str, Any]) -> Any:
    """Return the object of the message's type; of a text, its options."""
    if attrs["type"] != "text":
        return attrs.get(attrs["type"])
    return {"preview_url": attrs["preview_url"]} if "preview_url" in attrs else None


class RetrySerializer(serializers.Serializer[Any]):
    route = serializers.ChoiceField(choices=["official", "fallback"], default="official")


class ReadSerializer(serializers.Serializer[Any]):
    typing = serializers.BooleanField(
        default=False, help_text="Whether the customer sees, for some seconds, that we are typing."
    )


class ConfirmSerializer(serializers.Serializer[Any]):
    arrived = serializers.BooleanField(help_text="Must be true; otherwise use retry.")

    def validate_arrived(self, arrived: bool) -> bool:
        if not arrived:
            raise serializers.ValidationError(
                _("Only true is allowed; to send the message again, use retry.")
            )
        return arrived


class AddressSerializer(serializers.ModelSerializer[ContactAddress]):
    class Meta:
        model = ContactAddress
        fields = ["kind", "value"]


class ContactSerializer(serializers.ModelSerializer[Contact]):
    """A customer. `phone_number` and `user_id` are the present ones of all `addresses`."""

    addresses = AddressSerializer(many=True, read_only=True)
    custom_fields = serializers.DictField(
        child=serializers.CharField(allow_blank=True, max_length=1000),
        required=False,
        help_text="What staff note of the customer. An empty value removes its field.",
    )

    class Meta:
        model = Contact
        fields = [
            "id", "name", "phone_number", "user_id", "username", "addresses", "custom_fields",
        ]  # fmt: skip
        read_only_fields = ["id", "phone_number", "user_id", "username", "addresses"]


class ReachableSerializer(serializers.Serializer[Any]):
    """Whether the official API, and any other route, has an address of the customer."""

    official = serializers.BooleanField()
    fallback = serializers.BooleanField()
    why = serializers.CharField(help_text="What is missing, in words; empty if nothing is.")


class MergeSerializer(serializers.Serializer[Any]):
    """`with`: the contact that is the same customer."""

    def get_fields(self) -> dict[str, Any]:
        field = serializers.PrimaryKeyRelatedField(queryset=Contact.objects.all())
        return {"with": field}


class SplitSerializer(serializers.Serializer[Any]):
    address = serializers.CharField(
        max_length=150, help_text="The address that gets a contact of its own."
    )


class WindowSerializer(serializers.Serializer[Any]):
    """Whether a message that is no template may be sent, and until when; null: without an end."""

    open = serializers.BooleanField()
    until = serializers.DateTimeField(allow_null=True)


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    contact = ContactSerializer()
    labels: Any = serializers.SlugRelatedField(slug_field="name", many=True, read_only=True)
    window = serializers.SerializerMethodField()
    reachable = serializers.SerializerMethodField()
    controlled_by = serializers.SerializerMethodField()

    class Meta:
        model = Conversation
        fields = [
            "id", "channel", "contact", "unread_count", "last_message_at", "last_inbound_at",
            "assignee", "team", "status", "snoozed_until", "labels", "created_at", "window",
            "reachable", "controlled_by",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(["", "ai_agent", "app"]))
    def get_controlled_by(self, conversation: Conversation) -> str:
        """Who else has the conversation at Meta: its own agent, or another app; "" if nobody."""
        return control.holder(conversation)

    @extend_schema_field(WindowSerializer)
    def get_window(self, conversation: Conversation) -> Any:
        """Meta's 24-hour window; on a channel of another kind it is always open."""
        if conversation.channel.kind != Route.OFFICIAL:
            return {"open": True, "until": None}
        last = conversation.last_inbound_at
        until = last + WINDOW if last else None
        is_open = until is not None and timezone.now() < until
        return WindowSerializer({"open": is_open, "until": until}).data

    @extend_schema_field(ReachableSerializer)
    def get_reachable(self, conversation: Conversation) -> Any:
        return ReachableSerializer(reachability.of(conversation)).data


class CallSerializer(serializers.ModelSerializer[CallAttempt]):
    """A call. `out`: a user opened the calling page with the key of `channel`.

    `in`: the contact called. Only these have a status; `ended` does not mean that it was answered.
    """

    direction = serializers.SerializerMethodField()
    status = serializers.ChoiceField(choices=[*CallStatus, ""])

    class Meta:
        model = CallAttempt
        fields = [
            "id", "channel", "direction", "phone_number", "status", "video", "created_by",
            "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=Message.Direction.choices))
    def get_direction(self, call: CallAttempt) -> str:
        return Message.Direction.IN if call.incoming else Message.Direction.OUT
