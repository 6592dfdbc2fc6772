"""The files that WhatsApp accepts: detection by content, and the limits of each type. Pure.

The types and sizes are those of docs/providers/cloud.md §1.5. The client's file name is used only
where the bytes of two types look alike: old Office documents, audio in MP4.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MB: Final = 1024 * 1024
# The number of bytes at a file's beginning and end that `sniff` needs.
LOOKED_AT: Final = 64 * 1024

UNKNOWN: Final = "application/octet-stream"
OGG: Final = "audio/ogg"
_OOXML = "application/vnd.openxmlformats-officedocument."
_OFFICE: Final = {
    b"word/": f"{_OOXML}wordprocessingml.document",
    b"xl/": f"{_OOXML}spreadsheetml.sheet",
    b"ppt/": f"{_OOXML}presentationml.presentation",
}
_OLD_OFFICE: Final = {
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
}
IMAGES: Final = frozenset({"image/jpeg", "image/png"})
VIDEOS: Final = frozenset({"video/mp4", "video/3gpp"})
AUDIO: Final = frozenset({"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", OGG})
STICKERS: Final = frozenset({"image/webp"})
DOCUMENTS: Final = frozenset(
    {"application/pdf", "text/plain", *_OFFICE.values(), *_OLD_OFFICE.values()}
)

EXTENSIONS: Final = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "video/mp4": "mp4",
    "video/3gpp": "3gp",
    "audio/aac": "aac",
    "audio/amr": "amr",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    OGG: "ogg",
    "application/pdf": "pdf",
    "text/plain": "txt",
    **dict(zip(_OFFICE.values(), ("docx", "xlsx", "pptx"), strict=True)),
    **{mime: name for name, mime in _OLD_OFFICE.items()},
}


@dataclass(frozen=True, slots=True)
class Limit:
    """The MIME types and the maximum size in bytes that a message type accepts."""

    mime_types: frozenset[str]
    most_bytes: int


LIMITS: Final[dict[str, Limit]] = {
    "image": Limit(IMAGES, 5 * MB),
    "video": Limit(VIDEOS, 16 * MB),
    "audio": Limit(AUDIO, 16 * MB),
    "document": Limit(DOCUMENTS | IMAGES | VIDEOS | AUDIO | STICKERS, 100 * MB),
    # For animated stickers; 100 KB is recommended for static ones.
    "sticker": Limit(STICKERS, 500 * 1024),
}
MAX_BYTES: Final = max(limit.most_bytes for limit in LIMITS.values())
# Types that a browser may show inline: none that it could execute.
SHOWN: Final = IMAGES | STICKERS | VIDEOS | AUDIO | {"image/gif"}


def sniff(head: bytes, tail: bytes = b"", *, filename: str = "") -> str:
    """Return the MIME type proved by a file's first and last LOOKED_AT bytes, else UNKNOWN."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    if head[4:8] == b"ftyp":
        return _iso_media(head[8:12], filename)
    if head.startswith(b"OggS"):
        # WhatsApp plays Opus only.
        return OGG if b"OpusHead" in head[:512] else UNKNOWN
    if head.startswith(b"#!AMR"):
        return "audio/amr"
    if head.startswith(b"ID3") or re.match(rb"\xff[\xfa\xfb\xf2\xf3\xe2\xe3]", head):
        return "audio/mpeg"
    if re.match(rb"\xff[\xf0\xf1\xf8\xf9]", head):
        return "audio/aac"
    if head.startswith(b"PK\x03\x04"):
        return _office(head + tail)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _OLD_OFFICE.get(filename.rpartition(".")[2].lower(), UNKNOWN)
    return "text/plain" if _is_text(head) and _is_text(tail, tail=True) else UNKNOWN


def _iso_media(brand: bytes, filename: str) -> str:
    if brand in (b"M4A ", b"M4B "):
        return "audio/mp4"
    if brand.startswith(b"3g"):
        return "video/3gpp"
    if brand in (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ",
                 b"MSNV", b"dash", b"mmp4"):  # fmt: skip
        # The recorders of some phones write audio with a video brand.
        return "audio/mp4" if filename.lower().endswith(".m4a") else "video/mp4"
    # WhatsApp does not accept HEIC, AVIF and QuickTime.
    return UNKNOWN


def _office(data: bytes) -> str:
    if b"[Content_Types].xml" not in data:
        return UNKNOWN
    return next((mime for folder, mime in _OFFICE.items() if folder in data), UNKNOWN)


def _is_text(data: bytes, *, tail: bool = False) -> bool:
    """Whether this is UTF-8 without control characters.

    The head of a file may end, and its tail may begin, in the middle of a character.
    """
    if tail:
        data = data.lstrip(bytes(range(0x80, 0xC0)))
    elif not data:
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=tail)
    except UnicodeDecodeError:
        return False
    return not re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", text)


_MIME = re.compile(r"[a-z0-9]+/[a-z0-9][a-z0-9.+-]{0,100}")
_SHOWN_FAMILIES = ("image", "video", "audio")


def received_type(sniffed: str, announced: object) -> str:
    """Return the type of a received file: that of its bytes, else the announced one.

    Text in a format of its own, such as CSV, keeps the announced type, too. What a browser could
    execute is never believed.
    """
    mime = announced.partition(";")[0].strip().lower() if isinstance(announced, str) else ""
    if not _MIME.fullmatch(mime) or re.search(r"html|svg|xml$|script", mime):
        return sniffed
    plain = sniffed == "text/plain" and mime.startswith(("text/", "application/"))
    return mime if sniffed == UNKNOWN or plain else sniffed


def is_announced(announced: Mapping[str, object], *, sniffed: str, sha256: str, size: int) -> bool:
    """Return whether bytes are the file that was announced: digest, size and kind.

    Meta's pages give the digest as base64 or hexadecimal. What is missing or unreadable is not
    compared.
    """
    digest, length = announced.get("sha256"), announced.get("size")
    mime = announced.get("mime_type")
    if isinstance(digest, str) and (expected := _hexadecimal(digest)) and expected != sha256:
        return False
    if type(length) is int and length != size:
        return False
    family = mime.partition("/")[0] if isinstance(mime, str) else ""
    known = family in _SHOWN_FAMILIES and sniffed != UNKNOWN
    return not known or sniffed.partition("/")[0] in _SHOWN_FAMILIES


def _hexadecimal(digest: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        return digest.lower()
    if re.fullmatch(r"[A-Za-z0-9+/_-]{43}=?", digest):
        return base64.urlsafe_b64decode(f"{digest.rstrip('=')}=".translate(_URLSAFE)).hex()
    return ""


_URLSAFE = str.maketrans("+/", "-_")


def takes(type_: str, mime_type: str, size: int) -> bool:
    """Return whether a message of this type can carry such a file (size in bytes)."""
    limit = LIMITS.get(type_)
    return limit is not None and mime_type in limit.mime_types and 0 < size <= limit.most_bytes


def best_type(mime_type: str, size: int) -> str | None:
    """Return the message type that suits a file best; None if no type accepts it.

    An image or video that is too large for its own type is sent as a document.
    """
    preferred = ("image", "video", "audio", "sticker", "document")
    return next((type_ for type_ in preferred if takes(type_, mime_type, size)), None)


def safe_filename(name: object, mime_type: str, *, limit: int = 150) -> str:
    """Return a client's file name without folders and control characters, never empty.

    Truncation preserves the extension; a name without one gets that of the MIME type.
    """
    text = name if isinstance(name, str) else ""
    text = re.split(r"[/\\]", text)[-1]
    text = "".join(c for c in text if c.isprintable() and c not in '"<>|:*?').strip(" .")
    extension = EXTENSIONS.get(mime_type, "bin")
    if not text:
        return f"file.{extension}"
    stem, dot, ending = text.rpartition(".")
    if not dot or not stem or len(ending) > 10:
        return f"{text[: limit - 6]}.{extension}"
    return text if len(text) <= limit else f"{stem[: limit - len(ending) - 1]}.{ending}"
