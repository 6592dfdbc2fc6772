"""The complete product, started as users start it, and Chromium to test its pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench.product import Product, running
from tests.chromium import CHROMIUM
from tests.product.prepared import prepared_data

LONG = 60.0


@dataclass(frozen=True)
class Api:
    """A client of the REST API with a token."""

    product: Product
    headers: dict[str, str]

    def get(self, path: str, **params: Any) -> Any:
        response = requests.get(
            self.product.url + path, params=params, headers=self.headers, timeout=20
        )
        response.raise_for_status()
        return response.json()

    def send(self, to: str, text: str, **fields: Any) -> Any:
        body = {"channel": self.channel, "to": to, "text": text, **fields}
        response = requests.post(
            f"{self.product.url}/api/messages/", json=body, headers=self.headers, timeout=20
        )
        assert response.status_code == 202, response.text
        return response.json()

    @property
    def channel(self) -> int:
        return int(self.get("/api/channels/", kind="official")[0]["id"])

    def message(self, message: Any) -> Any:
        return self.get(f"/api/messages/{message['id']}/")

    def wait_for(self, message: Any, reached: Callable[[Any], bool]) -> Any:
        """Return the message once the condition holds, or fail with its current state."""
        return wait_until(lambda: self.message(message), reached)


def wait_until(
    read: Callable[[], Any], reached: Callable[[Any], bool], seconds: float = LONG
) -> Any:
    """Return the value once the condition holds; fail with the last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if reached(value):
            return value
        assert time.monotonic() < deadline, f"not reached, last value: {value}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """One product with demo data, shared by all non-destructive tests."""
    # A person handles drift here; tests/instances covers the automatic repair.
    with running(prepared_data(), EVOLUTION_DRIFT_REPAIR="ask") as product:
        yield product


@pytest.fixture(scope="session")
def api(product: Product) -> Api:
    return Api(product, {"Authorization": f"Token {product.token()}"})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser. Its event loop must not be open while other modules run theirs."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium-headless-shell)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def new_window(chromium: Browser, product: Product) -> Iterator[Callable[..., Page]]:
    """Open separate, signed-in windows; page errors fail the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_window(username: str = "demo", password: str = "alterna-demo", **options: Any) -> Page:
        context = chromium.new_context(base_url=product.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda line: (
                errors.append(line.text)
                if line.type == "error" and "Content Security Policy" in line.text
                else None
            ),
        )
        page.goto("/accounts/login/")
        page.fill("[name=username]", username)
        page.fill("[name=password]", password)
        page.press("[name=password]", "Enter")
        page.wait_for_url(f"{product.url}/")
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def slow_fallback(product: Product) -> Iterator[None]:
    """Make the fallback slow enough that the X is visible before the globe."""
    url = f"{product.wwebjs}/_control/settings"
    requests.post(url, json={"send_seconds": 1.5}, timeout=10).raise_for_status()
    yield
    requests.post(url, json={"send_seconds": 0.05}, timeout=10).raise_for_status()
