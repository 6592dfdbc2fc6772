"""The module graph: no import cycle, jobs on top, and pure modules without database or network.

import-linter checks the layers (`pyproject.toml`). It cannot distinguish `django.db` from the rest
of Django and does not look for cycles between modules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ("accounts", "channels_app", "config", "core", "instances", "messaging")

# The rules and parsers: they take data and `now` as arguments.
PURE = (
    "channels_app.connections.linked_numbers",
    "channels_app.connections.recovery",
    "channels_app.connections.states",
    "channels_app.connections.wwebjs_recovery",
    "channels_app.providers.base",
    "channels_app.providers.cloud.account",
    "channels_app.providers.cloud.events",
    "channels_app.providers.error_codes",
    "channels_app.providers.events",
    "channels_app.providers.evolution.events",
    "channels_app.providers.sessions",
    "channels_app.providers.wwebjs.events",
    "channels_app.providers.wwebjs.states",
    "core.text",
    "instances.connections.states",
    "instances.receive_mode.drift_rules",
    "messaging.delivery.policy",
    "messaging.delivery.quotes",
    "messaging.delivery.statuses",
    "messaging.inbound.neutral",
)
IMPURE = (
    "channels",
    "django.apps",
    "django.conf",
    "django.contrib",
    "django.core",
    "django.db",
    "django.http",
    "django.utils.timezone",
    "procrastinate",
    "psycopg",
    "requests",
    "rest_framework",
    "socket",
    "socketio",
    "urllib3",
    "websocket",
)


def find_modules() -> dict[str, Path]:
    modules = {}
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules[name] = path
    return modules


def with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def imports_in(source: str) -> set[str]:
    """Return every imported name in the source, those inside functions included.

    Imports for the type checker only are left out.
    """
    names = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return names


MODULES = find_modules()
IMPORTS = {name: imports_in(path.read_text()) for name, path in MODULES.items()}
# Importing a module runs its packages first. A module's own packages are no import of it.
GRAPH = {
    name: {
        module
        for imported in names
        for module in with_parents(imported)
        if module in MODULES and module not in with_parents(name)
    }
    for name, names in IMPORTS.items()
}


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def reachable(name: str) -> set[str]:
    found, waiting = set(), {name}
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= GRAPH[module] - found
    return found


def test_imports_in_functions_count_and_those_for_types_do_not() -> None:
    source = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    from c import d\n"
    assert imports_in(source) == {"b", "c.d"}


def test_a_cycle_is_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert find_cycle({"a": {"b"}, "b": {"a"}}) in (["a", "b", "a"], ["b", "a", "b"])


def test_there_is_no_import_cycle() -> None:
    cycle = find_cycle(GRAPH)
    assert not cycle, " imports ".join(cycle)


def test_only_procrastinate_s_autodiscovery_loads_the_jobs() -> None:
    jobs = {f"{app}.tasks" for app in APPS} & set(MODULES)
    assert jobs
    importers = {name: sorted(GRAPH[name] & jobs) for name in MODULES if GRAPH[name] & jobs}
    assert not importers, "enqueue jobs by the app's queue module instead"


def test_a_queue_module_knows_no_other_module_of_an_app() -> None:
    for app in APPS:
        assert GRAPH.get(f"{app}.queue", set()) <= {"core", "core.queue"}, app


def test_providers_import_only_core_and_each_other() -> None:
    own = "channels_app.providers"
    faults = {
        f"{name} imports {module}"
        for name in MODULES
        if own in with_parents(name)
        for module in GRAPH[name]
        if not {own, "core"} & set(with_parents(module)) and module != "channels_app"
    }
    assert not faults, "\n".join(sorted(faults))


def test_pure_modules_reach_neither_database_nor_network() -> None:
    faults = {
        f"{pure} reaches {imported} by {module}"
        for pure in PURE
        for module in reachable(pure)
        for imported in IMPORTS[module]
        if not set(IMPURE).isdisjoint(with_parents(imported))
    }
    assert not faults, "\n".join(sorted(faults))
