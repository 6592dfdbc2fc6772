"""What would happen to a message, and many messages at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error

from accounts.access import user_of
from accounts.api_errors import Conflict
from channels_app.providers import engines
from messaging import selectors
from messaging.api.problems import PROBLEM
from messaging.api.serializers import MessageSerializer, NewMessageSerializer
from messaging.delivery import accept, batch, downgrade, preview
from messaging.delivery.verdict import Verdict, reason_text

if TYPE_CHECKING:
    from messaging.delivery.batch import Result


class ReasonSerializer(serializers.Serializer[Any]):
    """A code of the delivery rules or of an error, and its sentence."""

    code = serializers.CharField()
    text = serializers.CharField()


class ChargeSerializer(serializers.Serializer[Any]):
    """What Meta charges for, and whether this message is free."""

    category = serializers.CharField()
    free = serializers.BooleanField()


class RefusalSerializer(serializers.Serializer[Any]):
    """A route that would not send the message, and why."""

    route = serializers.ChoiceField(list(engines.ENGINES))
    reason = ReasonSerializer()


class NextSerializer(serializers.Serializer[Any]):
    """What would happen; see `reason` for why, and `rule` for the delivery rule that says so."""

    would = serializers.ChoiceField(["send", "fall_back", "wait", "hold", "reject"])
    route = serializers.ChoiceField(list(engines.ENGINES), allow_null=True)
    reason = ReasonSerializer()
    rule = ReasonSerializer()
    refusals = RefusalSerializer(many=True)
    until = serializers.DateTimeField(allow_null=True)
    charge = ChargeSerializer(allow_null=True)
    changes = serializers.ListField(
        child=serializers.CharField(), help_text="What the route alters in the message, in words."
    )


class VerdictSerializer(NextSerializer):
    """`then` is what follows if the route refuses the message after all, or after the wait."""

    then = NextSerializer(allow_null=True)


class BatchItemSerializer(NewMessageSerializer):
    """A message of a batch, with an idempotency key of its own if it needs one."""

    idempotency_key = serializers.CharField(default="", allow_blank=True, max_length=255)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the message, and the key."""
        return {**super().validate(attrs), "idempotency_key": attrs["idempotency_key"]}


class BatchSerializer(serializers.Serializer[Any]):
    messages = serializers.ListField(
        child=serializers.DictField(),
        min_length=1,
        max_length=batch.MAX_MESSAGES,
        error_messages={
            "max_length": gettext_lazy("At most {max_length} messages in one request."),
        },
    )


class BatchRequestSerializer(serializers.Serializer[Any]):
    """Describes the request."""

    messages = BatchItemSerializer(many=True)


class BatchResultSerializer(serializers.Serializer[Any]):
    """`status` is that of a single send: 202, 200 for a replay, 400, 409 or 500.

    After a 500 (`internal_error`) the message is not stored: send it again with the same key.
    """

    status = serializers.ChoiceField([200, 202, 400, 409, 500])
    message = MessageSerializer(required=False)
    errors = serializers.DictField(required=False)  # type: ignore[assignment]


class BatchResponseSerializer(serializers.Serializer[Any]):
    results = BatchResultSerializer(many=True)


class PlanningActions:
    """The actions of `MessageViewSet` on messages that are not stored yet."""

    @extend_schema(request=NewMessageSerializer, responses={200: VerdictSerializer})
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Say what would happen to a message. Nothing is stored, and no provider is asked."""
        fields = NewMessageSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        found = preview.preview(user=user_of(request), **fields.validated_data)
        return Response(as_data(found))

    @extend_schema(
        request=BatchRequestSerializer,
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="For the whole batch. The same key and body send nothing twice.",
            )
        ],
        responses={
            200: BatchResponseSerializer,
            409: OpenApiResponse(
                PROBLEM,
                "`idempotency_conflict`: same key, different body. `fallback_quota`: a fallback"
                " would have to send more than its limits allow. Nothing is stored.",
            ),
        },
    )
    @action(detail=False, methods=["post"])
    def batch(self, request: Request) -> Response:
        """Accept up to 100 messages, each with its own result.

        For messages that customers expect: whoever writes to strangers in bulk gets the number
        banned. Outside the 24-hour window a batch takes only templates.
        """
        fields = BatchSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        items = [_item(one) for one in fields.validated_data["messages"]]
        try:
            results = batch.accept_batch(
                items,
                user=user_of(request),
                idempotency_key=_batch_key(request),
                body=request.data,
            )
        except accept.IdempotencyConflict:
            raise Conflict(
                _("This Idempotency-Key was used for another batch."), "idempotency_conflict"
            ) from None
        except batch.OverQuota as error:
            raise Conflict(str(error), "fallback_quota") from None
        return Response({"results": _results(results)})


def as_data(found: Verdict) -> dict[str, Any]:
    """Return a verdict in the shape of the contract."""
    data = _next(found)
    return {**data, "then": None if found.then is None else _next(found.then)}


def _next(found: Verdict) -> dict[str, Any]:
    charge = found.charge
    return {
        "would": found.would,
        "route": found.route,
        "reason": _reason(found.reason),
        "rule": _reason(found.rule),
        "refusals": [{"route": one.route, "reason": _reason(one.code)} for one in found.refusals],
        "until": found.until,
        "charge": charge and {"category": charge.category, "free": charge.free},
        "changes": downgrade.describe(found.changes),
    }


def _reason(code: str) -> dict[str, str]:
    return {"code": code, "text": reason_text(code)}


def _batch_key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > accept.MAX_KEY:
        raise ValidationError({"Idempotency-Key": _("At most 255 characters.")})
    return key


def _item(given: dict[str, Any]) -> batch.Item:
    fields = BatchItemSerializer(data=given)
    if not fields.is_valid():
        return batch.Item(errors=fields.errors)
    arguments = dict(fields.validated_data)
    return batch.Item(arguments, idempotency_key=arguments.pop("idempotency_key"))


def _results(results: Sequence[Result]) -> list[dict[str, Any]]:
    stored = [one.message.pk for one in results if one.message is not None]
    messages = selectors.messages().in_bulk(stored)
    return [_result(one, messages) for one in results]


def _result(result: Result, messages: dict[Any, Any]) -> dict[str, Any]:
    if result.message is not None:
        data = MessageSerializer(messages[result.message.pk]).data
        return {"status": 202 if result.created else 200, "message": data}
    if result.is_conflict:
        text = _("This Idempotency-Key was used for another message.")
        return {"status": 409, "errors": {"detail": text, "code": "idempotency_conflict"}}
    if result.has_failed:
        text = _("An internal error. The message is not stored: send it again with the same key.")
        return {"status": 500, "errors": {"detail": text, "code": "internal_error"}}
    errors = result.errors
    return {
        "status": 400,
        "errors": as_serializer_error(errors) if isinstance(errors, ValidationError) else errors,
    }
