"""What people read about message templates: status, quality, category, rejection. Pure.

The codes are Meta's (docs/providers/cloud.md §11.2). An unknown one is shown as Meta writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Word:
    """A code in words. `tone` is that of its badge: ok, warning, failing or "" (neutral).

    `meaning` is a sentence: what it means, and what to do about it.
    """

    label: Text
    tone: str = ""
    meaning: Text = ""


STATUSES: dict[str, Word] = {
    "APPROVED": Word(gettext_lazy("Approved"), "ok"),
    "PENDING": Word(
        gettext_lazy("In review"),
        "warning",
        gettext_lazy("Meta is reviewing it. Until it approves it, it cannot be sent."),
    ),
    "REJECTED": Word(
        pgettext_lazy("template", "Rejected"),
        "failing",
        gettext_lazy("Meta rejected it. Correct it and submit it again."),
    ),
    "PAUSED": Word(
        gettext_lazy("Paused"),
        "failing",
        gettext_lazy(
            "Meta paused it because customers blocked or reported it. The first pause lasts 3 hours"
            " and the second 6; the third time it is disabled for good. Until then, send another"
            " template."
        ),
    ),
    "DISABLED": Word(
        gettext_lazy("Disabled"),
        "failing",
        gettext_lazy(
            "Meta disabled it for good because of its low quality. Duplicate it under another name,"
            " with a text that customers expect."
        ),
    ),
    "IN_APPEAL": Word(
        gettext_lazy("Under appeal"),
        "warning",
        gettext_lazy("Meta is reviewing an appeal. Until then it cannot be sent."),
    ),
    "PENDING_DELETION": Word(
        gettext_lazy("Being deleted"), "", gettext_lazy("Meta is deleting it.")
    ),
    "DELETED": Word(gettext_lazy("Deleted"), "", gettext_lazy("It no longer exists at Meta.")),
    "LIMIT_EXCEEDED": Word(
        gettext_lazy("Limit exceeded"),
        "failing",
        gettext_lazy("The account has too many templates. Delete those that nobody uses."),
    ),
    "ARCHIVED": Word(
        gettext_lazy("Archived"),
        "",
        gettext_lazy(
            "Meta archived it because nobody used it, and deletes it after 28 days. Restore it in"
            " WhatsApp Manager if you need it."
        ),
    ),
    "FLAGGED": Word(
        gettext_lazy("Flagged"),
        "warning",
        gettext_lazy(
            "Its quality is low. If it stays low, Meta pauses it: send it only to customers who"
            " expect it."
        ),
    ),
    "LOCKED": Word(
        gettext_lazy("Locked"),
        "failing",
        gettext_lazy("Meta locked it. WhatsApp Manager shows the reason."),
    ),
}

QUALITIES: dict[str, Word] = {
    "GREEN": Word(gettext_lazy("High quality"), "ok"),
    "YELLOW": Word(
        gettext_lazy("Medium quality"),
        "warning",
        gettext_lazy("Customers have started to block or report it."),
    ),
    "RED": Word(
        gettext_lazy("Low quality"),
        "failing",
        gettext_lazy("Many customers block or report it. Meta will pause it if that continues."),
    ),
    "UNKNOWN": Word(gettext_lazy("Quality not rated yet")),
}

CATEGORIES: dict[str, Word] = {
    "UTILITY": Word(
        gettext_lazy("Utility"),
        "",
        gettext_lazy("About something that the customer ordered or agreed to: order, appointment."),
    ),
    "MARKETING": Word(
        gettext_lazy("Marketing"),
        "",
        gettext_lazy("Offers, news and everything else. Customers can stop receiving these."),
    ),
    "AUTHENTICATION": Word(
        gettext_lazy("Authentication"),
        "",
        gettext_lazy("One-time codes. Meta writes the text, in every language."),
    ),
}

REJECTIONS: dict[str, Word] = {
    "ABUSIVE_CONTENT": Word(
        gettext_lazy("Abusive content"),
        "",
        gettext_lazy(
            "The text can be read as a threat, or offends. Reword it; if you think that Meta is"
            " mistaken, appeal in WhatsApp Manager."
        ),
    ),
    "CATEGORY_NOT_AVAILABLE": Word(
        gettext_lazy("Category not available"),
        "",
        gettext_lazy("The account may not use this category. Duplicate it in another category."),
    ),
    "INCORRECT_CATEGORY": Word(
        gettext_lazy("Wrong category"),
        "",
        gettext_lazy(
            "The text does not suit the category. Duplicate it as marketing, or remove everything"
            " that promotes something."
        ),
    ),
    "INVALID_FORMAT": Word(
        gettext_lazy("Invalid format"),
        "",
        gettext_lazy(
            "Usually a variable at the beginning or end, two side by side, too little text around"
            " them, or an example that does not fit. Correct it and submit it again."
        ),
    ),
    "PROMOTIONAL": Word(
        gettext_lazy("Promotional"),
        "",
        gettext_lazy("It promotes something. Duplicate it as marketing, or remove the promotion."),
    ),
    "SCAM": Word(
        gettext_lazy("Looks like fraud"),
        "",
        gettext_lazy(
            "It asks for sensitive data or resembles fraud. Remove the request and links to other"
            " sites, and name your company."
        ),
    ),
    "TAG_CONTENT_MISMATCH": Word(
        gettext_lazy("Language or category does not match"),
        "",
        gettext_lazy(
            "The text is in another language than the template, or does not suit the category."
            " Duplicate it with the right ones."
        ),
    ),
}

# The languages that Meta accepts and that businesses here use, first those of the product.
LANGUAGES: tuple[tuple[str, Text], ...] = (
    ("pt_BR", gettext_lazy("Portuguese (Brazil)")),
    ("en_US", gettext_lazy("English (United States)")),
    ("en", gettext_lazy("English")),
    ("en_GB", gettext_lazy("English (United Kingdom)")),
    ("es", gettext_lazy("Spanish")),
    ("es_AR", gettext_lazy("Spanish (Argentina)")),
    ("es_ES", gettext_lazy("Spanish (Spain)")),
    ("es_MX", gettext_lazy("Spanish (Mexico)")),
    ("pt_PT", gettext_lazy("Portuguese (Portugal)")),
    ("fr", gettext_lazy("French")),
    ("de", gettext_lazy("German")),
    ("it", gettext_lazy("Italian")),
    ("ja", gettext_lazy("Japanese")),
    ("zh_CN", gettext_lazy("Chinese (China)")),
)


def status(code: str) -> Word:
    """Return a status in words. Meta adds new ones: these are shown as they are."""
    return STATUSES.get(
        code.upper(),
        Word(
            code, "warning", _("Alterna does not know this status. WhatsApp Manager explains it.")
        ),
    )


def quality(code: str) -> Word:
    """Return a quality score in words; that of an unrated template has no tone."""
    return QUALITIES.get(code.upper(), QUALITIES["UNKNOWN"])


def category(code: str) -> Word:
    """Return a category in words."""
    return CATEGORIES.get(code.upper(), Word(code))


def rejection(code: str) -> Word | None:
    """Return why Meta rejected a template and what to do; None if Meta names no reason."""
    if code.upper() in ("", "NONE"):
        return None
    return REJECTIONS.get(code.upper(), Word(code, "", _("WhatsApp Manager explains the reason.")))


def language(code: str) -> Text:
    """Return the name of a language, or its code."""
    return dict(LANGUAGES).get(code, code)
