"""A picture that the official API rejects is sent by the fallback and can be downloaded."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from bench.product import Product
from tests.product.conftest import Api
from tests.product.test_main_job import open_conversation

pytestmark = [pytest.mark.product, pytest.mark.browser]


def png(width: int, height: int) -> bytes:
    """Return a PNG that browsers can decode."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    rows = (b"\x00" + b"\x20\xa0\x60" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_chosen_picture_is_sent_shown_with_the_globe_and_downloaded(
    new_window: Callable[..., Page], api: Api, tmp_path: Path
) -> None:
    page = new_window(accept_downloads=True)
    open_conversation(page, api, "+5511999990047")
    picture = tmp_path / "pc-gamer-completo.png"
    picture.write_bytes(png(80, 60))
    document = {"name": "boleto.pdf", "mimeType": "text/html", "buffer": b"%PDF-1.4\n%%EOF\n"}

    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Anexar arquivos").press("Enter")
    choosing.value.set_files(picture)
    page.locator("[data-file-input]").set_input_files(document)  # type: ignore[arg-type]
    expect(page.locator("[data-files] li")).to_have_count(2)
    page.locator("#composer-text").fill("Olha que máquina")
    page.locator("#composer-text").press("Enter")

    bubble = page.locator("article[data-message]", has_text="pc-gamer-completo.png").last
    expect(bubble.locator('[data-icon="globe"]')).to_be_visible(timeout=20_000)
    expect(bubble).to_contain_text("Olha que máquina")
    image = bubble.locator("img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 80
    second = page.locator("article[data-message]", has_text="boleto.pdf").last
    expect(second.locator('[data-icon="globe"]')).to_be_visible(timeout=20_000)
    expect(page.locator("[data-files] li")).to_have_count(0)
    with page.expect_download() as downloading:
        bubble.get_by_role("link", name="Baixar pc-gamer-completo.png").click()
    assert downloading.value.suggested_filename == "pc-gamer-completo.png"
    assert Path(downloading.value.path()).read_bytes() == picture.read_bytes()


def test_a_pasted_file_of_an_unsupported_type_is_rejected_with_a_reason(
    new_window: Callable[..., Page], api: Api
) -> None:
    page = new_window()
    open_conversation(page, api, "+5511988887777")
    page.locator("#composer-text").evaluate(
        """field => {
          const data = new DataTransfer();
          data.items.add(new File(["MZ\\u0000\\u0001"], "virus.exe"));
          field.dispatchEvent(new ClipboardEvent("paste",
            {clipboardData: data, bubbles: true, cancelable: true}));
        }"""
    )
    # Told when it is chosen: there is nothing to send or to remove.
    expect(page.locator("#composer-error")).to_contain_text("virus.exe: ")
    expect(page.locator("[data-files] li")).to_have_count(0)


def test_a_received_picture_appears_automatically(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    page = new_window()
    open_conversation(page, api, "+5511977775555")
    requests.post(
        f"{product.graph}/_control/inbound",
        json={
            "from": "5511977775555",
            "type": "image",
            "data": base64.b64encode(png(64, 48)).decode(),
            "caption": "O defeito é este",
        },
        timeout=10,
    ).raise_for_status()

    bubble = page.locator("article[data-message]", has_text="O defeito é este")
    expect(bubble.locator('[data-file-state="stored"] img')).to_be_visible(timeout=20_000)
    loaded = bubble.locator("img").evaluate(
        "image => image.decode().then(() => image.naturalWidth)"
    )
    assert loaded == 64
