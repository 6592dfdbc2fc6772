"""Serializers of what people add to conversations: work, notes, quick replies, drafts, search."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts import people
from accounts.models import Team
from messaging.api.serializers import MessageSerializer
from messaging.inbox import quick_replies, variables
from messaging.inbox.models import MAX_NOTE
from messaging.inbox.personal import MAX_DRAFT
from messaging.models import Conversation, Label, Note, QuickReply


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer to which an unknown field is an error."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            text = _("This field does not exist.")
            raise serializers.ValidationError({name: [text] for name in sorted(unknown)})
        return super().to_internal_value(data)


class PersonSerializer(serializers.ModelSerializer[User]):
    name = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ["id", "username", "name"]
        read_only_fields = fields

    def get_name(self, user: User) -> str:
        return people.names_of(user)[0]


class TeamSerializer(serializers.ModelSerializer[Team]):
    members = PersonSerializer(many=True)

    class Meta:
        model = Team
        fields = ["id", "name", "members"]
        read_only_fields = fields


class LabelSerializer(serializers.ModelSerializer[Label]):
    class Meta:
        model = Label
        fields = ["id", "name", "color"]
        read_only_fields = fields


class WorkSerializer(StrictSerializer):
    """Changes of a conversation. `snoozed_until` alone snoozes; labels are created as needed."""

    assignee = serializers.PrimaryKeyRelatedField(
        queryset=people.active_staff(), allow_null=True, required=False
    )
    team = serializers.PrimaryKeyRelatedField(
        queryset=Team.objects.all(), allow_null=True, required=False
    )
    status = serializers.ChoiceField(choices=Conversation.Status.choices, required=False)
    snoozed_until = serializers.DateTimeField(allow_null=True, required=False)
    labels = serializers.ListField(child=serializers.CharField(max_length=200), required=False)


class NoteSerializer(serializers.ModelSerializer[Note]):
    """A private note. `@user` in its text mentions somebody."""

    author = serializers.CharField(source="author.username", read_only=True, allow_null=True)
    mentions: Any = serializers.SlugRelatedField(slug_field="username", many=True, read_only=True)

    class Meta:
        model = Note
        fields = ["id", "conversation", "text", "author", "mentions", "created_at"]
        read_only_fields = fields


class NewNoteSerializer(StrictSerializer):
    text = serializers.CharField(max_length=MAX_NOTE)


class QuickReplySerializer(serializers.ModelSerializer[QuickReply]):
    """A quick reply. `filled` and `missing` only with `?conversation=`: the text for its customer,
    and the variables that have no value.
    """

    personal = serializers.BooleanField(
        required=False, help_text="Only for the user of the key; otherwise everybody has it."
    )
    filled = serializers.SerializerMethodField()
    missing = serializers.SerializerMethodField()

    class Meta:
        model = QuickReply
        fields = ["id", "shortcut", "text", "personal", "filled", "missing", "updated_at"]

    def to_representation(self, reply: QuickReply) -> dict[str, Any]:
        reply.personal = reply.owner_id is not None  # type: ignore[attr-defined]
        return super().to_representation(reply)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            text = _("This field does not exist.")
            raise serializers.ValidationError({name: [text] for name in sorted(unknown)})
        return super().to_internal_value(data)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_filled(self, reply: QuickReply) -> str | None:
        filled = self._filled(reply)
        return None if filled is None else filled.text

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_missing(self, reply: QuickReply) -> list[str]:
        filled = self._filled(reply)
        return [] if filled is None else list(filled.missing)

    def _filled(self, reply: QuickReply) -> variables.Filled | None:
        conversation = self.context.get("conversation")
        if conversation is None:
            return None
        return quick_replies.fill(reply, conversation, user=self.context["request"].user)


class DraftSerializer(StrictSerializer):
    text = serializers.CharField(max_length=MAX_DRAFT, allow_blank=True, trim_whitespace=False)


class DaySerializer(StrictSerializer):
    date = serializers.DateField()


class FirstMessageSerializer(serializers.Serializer[Any]):
    """The first message of the day or after it; null if there is none."""

    message = serializers.UUIDField(allow_null=True)


class PartSerializer(serializers.Serializer[Any]):
    text = serializers.CharField()
    marked = serializers.BooleanField()


class HitSerializer(serializers.Serializer[Any]):
    """A message that was found. `parts`: its text, or a part of it, with the words marked."""

    message = MessageSerializer()
    parts = PartSerializer(many=True)


class SearchSerializer(serializers.Serializer[Any]):
    """`next`: give it as `before` for the next page; null at the end."""

    next = serializers.DateTimeField(allow_null=True)
    results = HitSerializer(many=True)
