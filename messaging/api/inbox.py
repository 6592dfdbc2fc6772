"""REST views for the work on conversations: changes, notes, drafts, quick replies, search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import get_object_or_404
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.access import user_of
from accounts.models import Team
from accounts.permissions import StaffWithModelPermissions
from channels_app.models import Channel
from core.text import row_id
from messaging import selectors
from messaging.api.inbox_serializers import (
    DaySerializer,
    DraftSerializer,
    FirstMessageSerializer,
    LabelSerializer,
    NewNoteSerializer,
    NoteSerializer,
    QuickReplySerializer,
    SearchSerializer,
    TeamSerializer,
    WorkSerializer,
)
from messaging.inbox import notes, personal, quick_replies, work
from messaging.inbox import search as full_text
from messaging.models import Conversation, Label, Note, QuickReply

if TYPE_CHECKING:
    _Actions = viewsets.GenericViewSet[Conversation]
else:
    _Actions = object

PAGE = 50


class StaffWithNotePermissions(StaffWithModelPermissions):
    """The permissions of notes, which are fewer people's than those of conversations."""

    def get_required_permissions(self, method: str, model_cls: type[Any]) -> list[str]:
        read = super().get_required_permissions("GET", Conversation)
        return [*read, *super().get_required_permissions(method, Note)]


class StaffWhoSeeConversations(StaffWithModelPermissions):
    """For what is a person's own: any method requires permission to view conversations only."""

    def get_required_permissions(self, method: str, model_cls: type[Any]) -> list[str]:
        return super().get_required_permissions("GET", Conversation)


class StaffWhoSeeMessages(StaffWithModelPermissions):
    """For the search, which has no model of its own."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        names = ("messaging.view_conversation", "messaging.view_message")
        return bool(user.is_authenticated and user.is_staff and user.has_perms(names))


class ConversationFilter(django_filters.FilterSet):
    channel = django_filters.ModelChoiceFilter(queryset=Channel.objects.all())
    team = django_filters.ModelChoiceFilter(queryset=Team.objects.all())
    search = django_filters.CharFilter(method="filter_list")
    unread = django_filters.BooleanFilter(method="filter_list")
    problem = django_filters.BooleanFilter(method="filter_list")
    status = django_filters.ChoiceFilter(choices=Conversation.Status.choices)
    label = django_filters.CharFilter(method="filter_list")
    assignee = django_filters.CharFilter(
        method="filter_list", help_text="`me`, `none`, or the ID of a user."
    )

    class Meta:
        model = Conversation
        fields: list[str] = []

    def filter_list(
        self, queryset: QuerySet[Conversation], name: str, value: Any
    ) -> QuerySet[Conversation]:
        """Leave it to `filter_queryset`: a search looks in what all the others leave."""
        return queryset

    def filter_queryset(self, queryset: QuerySet[Conversation]) -> QuerySet[Conversation]:
        """Return the conversations that all filters leave."""
        values = self.form.cleaned_data
        filters: dict[str, Any] = {
            {"problem": "attention"}.get(name, name): values[name]
            for name in ("search", "unread", "problem", "label")
            if values.get(name) not in (None, "")
        }
        if values.get("assignee"):
            filters |= self._assignee(values["assignee"])
        if filters:
            # Whoever may not read messages learns nothing of their words.
            filters["in_messages"] = self.request.user.has_perm("messaging.view_message")
            for name in ("channel", "team"):
                filters[name] = values[name].pk if values.get(name) else None
            filters["status"] = values.get("status") or ""
            found = selectors.conversation_list(**filters).order_by()
            queryset = queryset.filter(pk__in=found.values("pk"))
        found_by_fields: QuerySet[Conversation] = super().filter_queryset(queryset)
        return found_by_fields

    def _assignee(self, value: str) -> dict[str, Any]:
        if value == "none":
            return {"unassigned": True}
        if value == "me":
            return {"assignee": self.request.user.pk}
        if person := row_id(value):
            return {"assignee": person}
        raise serializers.ValidationError({"assignee": [_("Give me, none, or the ID of a user.")]})


class InboxActions(_Actions):
    """What people do with a conversation besides writing to the customer."""

    @extend_schema(request=WorkSerializer)
    def partial_update(self, request: Request, **kwargs: Any) -> Response:
        """Assign, label, snooze, resolve or reopen a conversation."""
        conversation = self.get_object()
        fields = WorkSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        with_errors(work.change, conversation, **fields.validated_data)
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        methods=["GET"], responses=NoteSerializer(many=True), filters=False, operation_id="notes"
    )
    @extend_schema(methods=["POST"], request=NewNoteSerializer, responses={201: NoteSerializer})
    @action(
        detail=True, methods=["get", "post"], permission_classes=[StaffWithNotePermissions],
        pagination_class=None,
    )  # fmt: skip
    def notes(self, request: Request, **kwargs: Any) -> Response:
        """List or add private notes. They are never sent."""
        conversation = self.get_object()
        if request.method == "GET":
            return Response(NoteSerializer(notes.of(conversation.pk), many=True).data)
        fields = NewNoteSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        text = fields.validated_data["text"]
        note = with_errors(notes.add, conversation, text, user=user_of(request))
        return Response(NoteSerializer(note).data, status=status.HTTP_201_CREATED)

    @extend_schema(methods=["GET"], responses=DraftSerializer)
    @extend_schema(methods=["PUT"], request=DraftSerializer, responses=DraftSerializer)
    @action(detail=True, methods=["get", "put"], permission_classes=[StaffWhoSeeConversations])
    def draft(self, request: Request, **kwargs: Any) -> Response:
        """Read or replace the user's own draft; an empty text removes it."""
        conversation, user = self.get_object(), user_of(request)
        if request.method == "PUT":
            fields = DraftSerializer(data=request.data)
            fields.is_valid(raise_exception=True)
            text = fields.validated_data["text"]
            with_errors(personal.save_draft, conversation, text, user=user)
        return Response({"text": personal.draft(conversation, user=user)})

    @extend_schema(
        parameters=[OpenApiParameter("date", str, required=True, description="YYYY-MM-DD")],
        responses=FirstMessageSerializer,
        filters=False,
    )
    @action(detail=True, permission_classes=[StaffWhoSeeMessages])
    def first_message(self, request: Request, **kwargs: Any) -> Response:
        """Find the first message of a day, or after it."""
        fields = DaySerializer(data={"date": request.query_params.get("date")})
        fields.is_valid(raise_exception=True)
        found = selectors.first_message_of(self.get_object(), fields.validated_data["date"])
        return Response({"message": None if found is None else str(found.pk)})


def with_errors(use_case: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a use case; its errors become those of the request."""
    try:
        return use_case(*args, **kwargs)
    except ValidationError as error:
        raise serializers.ValidationError(error.message_dict) from None


class TeamViewSet(viewsets.ReadOnlyModelViewSet[Team]):
    """Teams, by name, with the people to whom conversations can be assigned."""

    serializer_class = TeamSerializer
    queryset = Team.objects.prefetch_related("members")
    lookup_value_converter = "int"


class LabelViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Label]):
    """The labels of conversations, by name."""

    serializer_class = LabelSerializer
    queryset = Label.objects.all()


class ByShortcut(CursorPagination):
    page_size = PAGE
    ordering = ("shortcut", "id")


class QuickReplyViewSet(viewsets.ModelViewSet[QuickReply]):
    """The quick replies that the user of the key sees: those of all, and their own.

    Everybody who sees conversations has quick replies of their own; those of all require
    permission.
    """

    serializer_class = QuickReplySerializer
    pagination_class = ByShortcut
    permission_classes = [StaffWhoSeeConversations]
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    lookup_value_converter = "int"
    queryset = QuickReply.objects.all()

    def get_queryset(self) -> QuerySet[QuickReply]:
        search = self.request.query_params.get("search", "").replace("\x00", "")
        return quick_replies.visible_to(user_of(self.request), search=search)

    def get_serializer_context(self) -> dict[str, Any]:
        context = dict(super().get_serializer_context())
        if pk := self.request.query_params.get("conversation", ""):
            found = Conversation.objects.select_related("contact", "channel")
            context["conversation"] = get_object_or_404(found, pk=row_id(pk))
        return context

    @extend_schema(
        parameters=[
            OpenApiParameter("search", str, description="Part of a shortcut or text."),
            OpenApiParameter("conversation", int, description="Whose variables to fill in."),
        ]
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    def perform_create(self, serializer: Any) -> None:
        self._save(serializer, QuickReply(owner=user_of(self.request)), "add", personal=False)

    def perform_update(self, serializer: Any) -> None:
        reply = serializer.instance
        self._require(reply, "change")
        self._save(serializer, reply, "change", personal=reply.owner_id is not None)

    def perform_destroy(self, instance: QuickReply) -> None:
        self._require(instance, "delete")
        instance.delete()

    def _save(self, serializer: Any, reply: QuickReply, verb: str, *, personal: bool) -> None:
        fields = dict(serializer.validated_data)
        is_personal = fields.pop("personal", personal)
        reply.owner = user_of(self.request) if is_personal else None
        self._require(reply, verb)
        for name, value in fields.items():
            setattr(reply, name, value)
        serializer.instance = with_errors(quick_replies.save, reply)

    def _require(self, reply: QuickReply, verb: str) -> None:
        needed = f"messaging.{verb}_quickreply"
        if reply.owner_id is None and not self.request.user.has_perm(needed):
            raise PermissionDenied


class SearchQuerySerializer(serializers.Serializer[Any]):
    q = serializers.CharField(max_length=200)
    conversation = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    channel = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    before = serializers.DateTimeField(required=False)


class SearchView(APIView):
    """Search in messages, captions and names of files."""

    permission_classes = [StaffWhoSeeMessages]

    @extend_schema(parameters=[SearchQuerySerializer], responses=SearchSerializer)
    def get(self, request: Request) -> Response:
        """Return the newest messages that contain all words, in any accents, case and inflection.

        Portuguese and English. A word of three letters or more is also found as the beginning of
        another.
        """
        fields = SearchQuerySerializer(data=request.query_params)
        fields.is_valid(raise_exception=True)
        scope = dict(fields.validated_data)
        hits = full_text.messages_with(scope.pop("q"), selectors.messages(), limit=PAGE, **scope)
        more = hits[-1].message.created_at if len(hits) == PAGE else None
        context = {"request": request}
        return Response(SearchSerializer({"next": more, "results": hits}, context=context).data)
