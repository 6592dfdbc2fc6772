"""Full-text search in messages, captions and names of files, in Portuguese and English.

Accents and case make no difference. Each word of the search must be in the message: as it is
written or as the beginning of a word, by its stem in either language (“pedidos” finds “pedido”), or
in the other number (“promoções”, “promoção”).

The newest messages are read first, in their order; only if these contain too few, the index of the
words is asked. So the time depends neither on how common a word is nor on PostgreSQL's guess of it:
a word that few of the newest messages contain is in few of all, and how many they contain says how
far back enough of them are.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.postgres.search import SearchQuery
from django.db import connection
from django.db.models import (
    BooleanField,
    DateTimeField,
    DurationField,
    ExpressionWrapper,
    F,
    Func,
    Q,
    QuerySet,
    Value,
)
from django.db.models.expressions import Combinable

from core import search_text
from core.search_text import Part
from messaging.models import Conversation, Message, MessageWords

MAX_WORDS: Final = 8
# PostgreSQL indexes no word of more than 2 KB.
MAX_WORD: Final = 200
# How many of the newest messages are read without the index of the words.
NEWEST: Final = 10_000
# How many times as many are read in the same way if the newest have some hits; and for how many
# times as long the index is asked before it is asked for all.
FURTHER: Final = 8
FURTHEST: Final = 50
# Of how many messages, the newest that contain the words, the conversations are found.
MAX_FOUND: Final = 500
# A shorter word is not searched for as the beginning of others.
_SHORTEST_PREFIX: Final = 3
# The texts of a message's object that are searched (migration 0022).
_KEYS: Final = (
    "caption", "filename", "text", "title", "name", "formatted_name", "description", "address"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found, and the text of it with the words marked."""

    message: Message
    parts: tuple[Part, ...]


class Fold(Func):
    """A text without accents and in lower case, as `search_text.fold` makes it."""

    function = "alterna_fold"
    arity = 1


class TrigramsContain(Func):
    """Whether a text contains all sequences of three characters of another."""

    template = "alterna_trigrams(%(expressions)s)"
    arg_joiner = ") @> alterna_trigrams("
    arity = 2
    output_field = BooleanField()


def containing(match: Q, field: Combinable, text: str) -> Q:
    """Return the match so that the index on the field's trigrams can find it.

    PostgreSQL's own pg_trgm is not everywhere (migration 0003). A shorter text has no trigrams.
    """
    if len(text) < 3:
        return match
    return Q(TrigramsContain(field, Value(text))) & match


def conversations_with(text: str, among: QuerySet[Conversation] | None = None) -> list[int]:
    """Return the conversations of the newest messages that contain the words of a text.

    `among`: only messages of these conversations count.
    """
    scope = Q() if among is None else Q(message__conversation__in=among.order_by().values("pk"))
    ids = _newest_with(text, scope, limit=MAX_FOUND)
    found = Message.objects.filter(pk__in=ids).order_by()
    return list(found.values_list("conversation_id", flat=True).distinct())


def messages_with(
    text: str,
    messages: QuerySet[Message],
    *,
    conversation: int | None = None,
    channel: int | None = None,
    before: dt.datetime | None = None,
    limit: int = 50,
) -> list[Hit]:
    """Return those of the messages that contain the words of a text, newest first.

    `before` continues after the last one of the previous page.
    """
    scope = Q()
    if conversation is not None:
        scope &= Q(message__conversation=conversation)
    if channel is not None:
        scope &= Q(message__conversation__channel=channel)
    ids = _newest_with(text, scope, before=before, limit=limit, is_small=conversation is not None)
    found = messages.filter(pk__in=ids).order_by("-created_at", "-id")
    return marked(text, list(found))


def latest_hits(text: str, messages: QuerySet[Message], conversations: Sequence[int]) -> list[Hit]:
    """Return the latest message with the words in each of these conversations that has one."""
    query = _query(text)
    if query is None:
        return []
    found = Message.objects.filter(conversation__in=conversations, words__words=query)
    latest = found.order_by("conversation_id", "-created_at", "-id").distinct("conversation_id")
    ids = list(latest.values_list("pk", flat=True))
    return marked(text, list(messages.filter(pk__in=ids).order_by("-created_at", "-id")))


def marked(text: str, messages: Sequence[Message]) -> list[Hit]:
    """Return messages that were found with the text in which the words are marked."""
    shown = [list(_texts(message)) for message in messages]
    matches = matcher(text, [one for texts in shown for one in texts])
    hits = []
    for message, texts in zip(messages, shown, strict=True):
        candidates = [search_text.mark(one, matches) for one in texts]
        best = max(candidates, key=lambda parts: any(part.marked for part in parts), default=())
        hits.append(Hit(message, best))
    return hits


def matcher(text: str, texts: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a folded word of one of these texts is one that the search finds."""
    wanted = search_text.words(text)[:MAX_WORDS]
    present = {word for one in texts for word in search_text.words(one)}
    stems = _stems({*wanted, *present})
    wanted_stems = {stem for word in wanted for stem in stems[word]}
    others = {other for word in wanted for other in search_text.other_numbers(word)}

    def matches(word: str) -> bool:
        if word in others or any(_begins(word, one) for one in wanted):
            return True
        return not wanted_stems.isdisjoint(stems.get(word, ()))

    return matches


def _begins(word: str, wanted: str) -> bool:
    return word == wanted or (len(wanted) >= _SHORTEST_PREFIX and word.startswith(wanted))


def _stems(words: set[str]) -> dict[str, set[tuple[str, str]]]:
    """Return the stems of words by language, as the database makes them."""
    stems: dict[str, set[tuple[str, str]]] = {word: set() for word in words}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT word, language, stem FROM unnest(%s::text[]) word,"
            " LATERAL (VALUES ('portuguese', ts_lexize('portuguese_stem', word)),"
            " ('english', ts_lexize('english_stem', word))) made(language, stems),"
            " unnest(stems) stem",
            [list(words)],
        )
        for word, language, stem in cursor.fetchall():
            stems[word].add((language, stem))
    return stems


def _texts(message: Message) -> Iterator[str]:
    """Yield what the search reads of a message."""
    if message.text:
        yield message.text
    yield from _strings(message.content)
    if message.media is not None and message.media.filename:
        yield message.media.filename


def _strings(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, str) and key in _KEYS and value:
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _newest_with(
    text: str,
    scope: Q,
    *,
    limit: int,
    before: dt.datetime | None = None,
    is_small: bool = False,
) -> list[uuid.UUID]:
    """Return the newest messages with the words. `is_small`: the scope has few messages."""
    query = _query(text)
    if query is None:
        return []
    rows = MessageWords.objects.all()
    if before is not None:
        rows = rows.filter(created_at__lt=before)
    found = rows.filter(scope, words=query)
    if not is_small:
        times = rows.order_by("-created_at").values_list("created_at", flat=True)
        since = next(iter(times[NEWEST : NEWEST + 1]), None)
        newest = found if since is None else found.filter(created_at__gte=since)
        ids = list(newest.order_by("-created_at").values_list("pk", flat=True)[:limit])
        if since is None or len(ids) == limit:
            return ids
        # If these have some, so many times as many messages have enough, and not all are read.
        times_more = 1.5 * limit / len(ids) if ids else FURTHEST + 1
        if times_more <= FURTHEST:
            latest = next(iter(times[:1]), since)
            more = found.filter(created_at__gte=latest - times_more * (latest - since))
            if times_more <= FURTHER:
                ids = list(more.order_by("-created_at").values_list("pk", flat=True)[:limit])
            else:
                ids = _by_index(more, limit)
            if len(ids) == limit:
                return ids
    return _by_index(found, limit)


def _by_index(found: QuerySet[MessageWords], limit: int) -> list[uuid.UUID]:
    # An order that no index has: PostgreSQL must not walk through all messages instead.
    in_order = ExpressionWrapper(
        F("created_at") + Value(dt.timedelta(), DurationField()), output_field=DateTimeField()
    )
    return list(found.order_by(in_order.desc()).values_list("pk", flat=True)[:limit])


def _query(text: str) -> Any:
    """Return the condition on the words of a message, or None for a text without words."""
    combined: Any = None
    words = [word for word in search_text.words(text) if len(word) <= MAX_WORD]
    for word in words[:MAX_WORDS]:
        prefix = ":*" if len(word) >= _SHORTEST_PREFIX else ""
        one: Any = SearchQuery(f"'{word}'{prefix}", config="simple", search_type="raw")
        for language in ("portuguese", "english"):
            one |= SearchQuery(word, config=language)
        for other in search_text.other_numbers(word):
            one |= SearchQuery(other, config="simple")
        combined = one if combined is None else combined & one
    return combined
