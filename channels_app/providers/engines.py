"""The list of all engines, by name. It knows no app."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from channels_app.providers.base import Capabilities, Engine, EventSource, Text
from channels_app.providers.cloud.engine import CLOUD
from channels_app.providers.evolution.engine import EVOLUTION
from channels_app.providers.wwebjs.engine import WWEBJS

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (CLOUD, WWEBJS, EVOLUTION)}


def by_name(name: str) -> Engine:
    """Return an engine by the name that connections and routes have. Raises ValueError."""
    try:
        return ENGINES[name]
    except KeyError:
        raise ValueError(f"no such provider: {name}") from None


def label(name: str) -> Text:
    """Return the name of a route for people; an unknown one unchanged."""
    return ENGINES[name].label if name in ENGINES else name


def choices() -> list[tuple[str, Text]]:
    """Return name and label of every engine, for `Connection.provider` and `Message.route`."""
    return [(one.name, one.label) for one in ENGINES.values()]


def names_with(condition: Callable[[Capabilities], bool]) -> list[str]:
    """Return the names of the engines that can do something."""
    return [one.name for one in ENGINES.values() if condition(one.capabilities)]


def with_channels() -> list[Engine]:
    """Return the engines that channels can have as their own connection."""
    return [one for one in ENGINES.values() if one.channel is not None]


def channel_kinds() -> list[tuple[str, Text]]:
    """Return name and label of each, for `Channel.kind`."""
    return [(one.name, one.channel.label) for one in ENGINES.values() if one.channel is not None]


def has_channels(name: str) -> bool:
    """Whether channels can have this engine as their own connection."""
    return name in dict(channel_kinds())


def fallback_choices() -> list[tuple[str, Text]]:
    """Return name and title of each engine that can be a fallback."""
    return [(name, ENGINES[name].title) for name in fallbacks()]


def fallbacks() -> list[str]:
    """Return the names of the engines other than the official API."""
    return [name for name in ENGINES if name != CLOUD.name]


def event_sources() -> Iterator[EventSource]:
    """Yield where events come from."""
    return (one.events for one in ENGINES.values())


def by_source(name: str) -> Engine:
    """Return the engine whose events have this source. Raises ValueError."""
    for one in ENGINES.values():
        if one.events.name == name:
            return one
    raise ValueError(f"no such source of events: {name}")


def event_source(name: str) -> EventSource:
    """Return a source of events by the name that the journal stores. Raises ValueError."""
    return by_source(name).events


def source_choices() -> list[tuple[str, Text]]:
    """Return name and label of every source, for `InboundEvent.source`."""
    return [(source.name, source.label) for source in event_sources()]
