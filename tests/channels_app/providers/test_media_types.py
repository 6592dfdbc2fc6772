"""File type detection, and the limits of each message type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_app.providers import media_types
from channels_app.providers.media_types import MB, UNKNOWN, best_type, safe_filename, sniff, takes
from tests import files

OOXML = "application/vnd.openxmlformats-officedocument"


@pytest.mark.parametrize(
    ("data", "name", "detected"),
    [
        (files.PNG, "", "image/png"),
        (files.JPEG, "virus.exe", "image/jpeg"),
        (files.GIF, "", "image/gif"),
        (files.WEBP, "", "image/webp"),
        (files.PDF, "", "application/pdf"),
        (files.MP4, "", "video/mp4"),
        (files.MP4, "gravação.M4A", "audio/mp4"),
        (files.THREE_GP, "", "video/3gpp"),
        (files.M4A, "", "audio/mp4"),
        (files.QUICKTIME, "film.mp4", UNKNOWN),
        (files.HEIC, "foto.jpg", UNKNOWN),
        (files.OPUS, "", "audio/ogg"),
        (files.VORBIS, "", UNKNOWN),
        (files.MP3, "", "audio/mpeg"),
        (b"\xff\xfb\x90\x00" * 9, "", "audio/mpeg"),
        (files.AAC, "", "audio/aac"),
        (files.AMR, "", "audio/amr"),
        (files.DOCX, "", f"{OOXML}.wordprocessingml.document"),
        (files.XLSX, "", f"{OOXML}.spreadsheetml.sheet"),
        (files.ZIP, "carta.docx", UNKNOWN),
        (files.OLD_OFFICE, "planilha.XLS", "application/vnd.ms-excel"),
        (files.OLD_OFFICE, "setup.msi", UNKNOWN),
        ("Olá, ação\r\n".encode(), "", "text/plain"),
        (b"<html><script>alert(1)</script>", "x.html", "text/plain"),
        ("Olá".encode("latin-1"), "", UNKNOWN),
        (b"a\x00b", "", UNKNOWN),
        (files.PROGRAM, "foto.png", UNKNOWN),
        (b"", "", UNKNOWN),
    ],
    ids=range(28),
)
def test_the_type_is_detected_from_the_bytes(data: bytes, name: str, detected: str) -> None:
    assert sniff(data, data, filename=name) == detected


@given(st.text(min_size=200), st.integers(1, 100))
def test_a_text_truncated_within_a_character_is_still_text(text: str, at: int) -> None:
    data = text.replace("\x00", "").encode(errors="replace")
    whole = sniff(data)
    if whole == "text/plain":
        assert sniff(data[:-at] or data, data[at:]) == "text/plain"


@given(st.binary(max_size=300), st.binary(max_size=300), st.text())
def test_any_bytes_have_a_type(head: bytes, tail: bytes, name: str) -> None:
    assert sniff(head, tail, filename=name) in {UNKNOWN, *media_types.EXTENSIONS}


@pytest.mark.parametrize(
    ("type_", "mime_type", "size", "fits"),
    [
        ("image", "image/png", 5 * MB, True),
        ("image", "image/png", 5 * MB + 1, False),
        ("image", "image/webp", 1, False),
        ("image", "application/pdf", 1, False),
        ("image", "image/png", 0, False),
        ("video", "video/mp4", 16 * MB, True),
        ("video", "video/mp4", 16 * MB + 1, False),
        ("audio", "audio/ogg", 16 * MB, True),
        ("audio", "video/mp4", 1, False),
        ("sticker", "image/webp", 500 * 1024, True),
        ("sticker", "image/webp", 500 * 1024 + 1, False),
        ("document", "application/pdf", 100 * MB, True),
        ("document", "application/pdf", 100 * MB + 1, False),
        ("document", "image/png", 50 * MB, True),
        ("document", UNKNOWN, 1, False),
        ("text", "text/plain", 1, False),
    ],
)
def test_each_type_has_its_limits(type_: str, mime_type: str, size: int, fits: bool) -> None:
    assert takes(type_, mime_type, size) is fits


@pytest.mark.parametrize(
    ("mime_type", "size", "type_"),
    [
        ("image/png", MB, "image"),
        ("image/png", 6 * MB, "document"),
        ("video/mp4", MB, "video"),
        ("video/mp4", 17 * MB, "document"),
        ("audio/ogg", MB, "audio"),
        ("image/webp", 1000, "sticker"),
        ("application/pdf", MB, "document"),
        ("application/pdf", 101 * MB, None),
        ("image/gif", 1, None),
        (UNKNOWN, 1, None),
    ],
)
def test_a_file_is_sent_as_the_best_type(mime_type: str, size: int, type_: str | None) -> None:
    assert best_type(mime_type, size) == type_


@pytest.mark.parametrize(
    ("name", "mime_type", "safe"),
    [
        ("pc gamer.png", "image/png", "pc gamer.png"),
        ("../../etc/passwd", "text/plain", "passwd.txt"),
        ("C:\\fotos\\a.jpg", "image/jpeg", "a.jpg"),
        ('a"b\r\n\u202eX-Evil: 1.png', "image/png", "abX-Evil 1.png"),
        ("", "image/png", "file.png"),
        (None, "application/pdf", "file.pdf"),
        (" .. ", "image/png", "file.png"),
        ("x" * 300 + ".pdf", "application/pdf", "x" * 146 + ".pdf"),
        ("boleto", "application/pdf", "boleto.pdf"),
    ],
)
def test_a_file_name_is_sanitized(name: object, mime_type: str, safe: str) -> None:
    assert safe_filename(name, mime_type) == safe


@given(st.text())
def test_every_sanitized_name_can_be_stored(name: str) -> None:
    made = safe_filename(name, "image/png")
    assert 0 < len(made) <= 150
    assert made.isprintable()
    assert "/" not in made
