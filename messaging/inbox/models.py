"""What people add to conversations. All of it stays here: no provider reads these tables."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

MAX_LABEL = 50
MAX_NOTE = 4096
MAX_SHORTCUT = 50
MAX_REPLY = 4096


class Label(models.Model):
    """A word that people put on conversations, such as “VIP”. Case makes no difference."""

    name = models.CharField(_("name"), max_length=MAX_LABEL)
    # "#rrggbb"; empty: the page chooses one by the name.
    color = models.CharField(_("color"), max_length=7, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("label")
        verbose_name_plural = _("labels")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(Lower("name"), name="label_once")]

    def __str__(self) -> str:
        return self.name


class Note(models.Model):
    """A private note in a conversation's time line.

    It is a row of its own and no message: the outbox, the policy and the providers read messages
    only, so no state of a note can have it sent. If its conversation was joined to another one, it
    is shown there (`inbox.notes.of`). `version` is incremented with each change that a page
    must show.
    """

    conversation = models.ForeignKey(
        "messaging.Conversation",
        verbose_name=_("conversation"),
        on_delete=models.CASCADE,
        related_name="notes",
        db_index=False,  # an index begins with it
    )
    text = models.TextField(_("text"), max_length=MAX_NOTE)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("author"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    mentions = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("mentions"),
        blank=True,
        related_name="mentioned_in",
    )
    version = models.PositiveIntegerField(_("version"), default=1)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("note")
        verbose_name_plural = _("notes")
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(fields=["conversation", "created_at"], name="note_of_conversation"),
            models.Index(fields=["updated_at"], name="note_updated"),
        ]

    def __str__(self) -> str:
        return f"{self.conversation_id} {self.created_at:%Y-%m-%d %H:%M}"


class QuickReply(models.Model):
    """A text that people send often, by its shortcut. Without an owner, everybody has it."""

    shortcut = models.CharField(_("shortcut"), max_length=MAX_SHORTCUT)
    text = models.TextField(_("text"), max_length=MAX_REPLY)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="quick_replies",
        db_index=False,  # a constraint begins with it
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("quick reply")
        verbose_name_plural = _("quick replies")
        ordering = ["shortcut", "id"]
        constraints = [
            models.UniqueConstraint(
                "owner", Lower("shortcut"), name="quick_reply_once", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"/{self.shortcut}"


class PersonalState(models.Model):
    """A person's own state of a conversation: the draft, and how far they have read."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    conversation = models.ForeignKey(
        "messaging.Conversation", on_delete=models.CASCADE, related_name="personal_states"
    )
    draft = models.TextField(blank=True, default="")
    draft_at = models.DateTimeField(null=True, blank=True)
    # The time in the conversation's order up to which the person has read.
    read_at = models.DateTimeField(null=True, blank=True)
    # Notes up to this time that mention the person have been seen by them.
    mentions_seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "conversation"], name="personal_state_once_per_conversation"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.conversation_id}"


class AutomaticAnswer(models.Model):
    """A greeting or out-of-hours answer: each once a conversation and day of the channel."""

    class Kind(models.TextChoices):
        GREETING = "greeting", _("greeting")
        AWAY = "away", _("out-of-hours answer")

    conversation = models.ForeignKey(
        "messaging.Conversation",
        verbose_name=_("conversation"),
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,  # a constraint begins with it
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    day = models.DateField(_("day"))
    message = models.ForeignKey(
        "messaging.Message",
        verbose_name=_("message"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("automatic answer")
        verbose_name_plural = _("automatic answers")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["conversation", "day", "kind"], name="automatic_answer_once_a_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.conversation_id} {self.kind} {self.day}"


class MessageWords(models.Model):
    """The words of a message for the search. Triggers of the database write it (migration 0022).

    They are a row of their own: a status changes the row of its message, and each index that the
    table has would be written again with it.
    """

    message = models.OneToOneField(
        "messaging.Message",
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="words",
        db_constraint=False,
    )
    words = SearchVectorField()
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            # New entries are gathered, which costs a tenth; a search reads through them, so few.
            GinIndex(
                fields=["words"],
                name="message_words",
                fastupdate=True,
                gin_pending_list_limit=512,  # kB
            ),
            models.Index(fields=["created_at"], name="message_words_latest"),
        ]

    def __str__(self) -> str:
        return str(self.message_id)
