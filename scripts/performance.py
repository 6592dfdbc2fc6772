"""Update the table and the plots of docs/performance.md from bench/results.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

WIDTH, LABEL, VALUE, ROW, BAR = 860, 400, 120, 26, 14
MET, MISSED, NEUTRAL = "#2a7d4f", "#b4452f", "#4a6fa5"
CPU = "the rule: processor time per message, "


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    text: str
    color: str = NEUTRAL


def main() -> int:
    content = json.loads(RESULTS.read_text())
    results = content["results"]
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}{table(content)}{END}{tail}")
    PLOTS.mkdir(exist_ok=True)
    for name, title, bars, mark in (
        ("ratios", "Ratio to the yardstick of the same run; the line is 1", ratios(results), 1.0),
        ("processor-time", "Processor time per message with four statuses, ms", cpu(results), None),
        ("memory", "Memory of each process, MB: at rest and at the end", memory(results), None),
        ("scaling", "Messages a second by number of sets", scaling(results), None),
    ):
        path = PLOTS / f"{name}.svg"
        if bars:
            path.write_text(chart(title, bars, mark))
        else:
            path.unlink(missing_ok=True)
    return 0


def table(content: dict[str, Any]) -> str:
    """Return the results as a table in Markdown, below where they come from."""
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        f"{content['machine']}. {versions}. Commit {content['commit']}.",
        "",
        "| what | measured | yardstick | ratio | goal | met |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["results"]:
        yardstick = "" if row["yardstick"] is None else f"{row['yardstick']:,g}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:g}"
        met = {None: "", True: "yes", False: "**no**"}[row["met"]]
        value = f"{row['value']:,g} {row['unit']}"
        lines.append(f"| {row['name']} | {value} | {yardstick} | {ratio} | {row['goal']} | {met} |")
    return "\n".join([*lines, ""])


def ratios(results: Sequence[dict[str, Any]]) -> list[Bar]:
    """Return the results with a goal for their ratio; green if it is met."""
    return [
        Bar(
            row["name"], row["ratio"], f"{row['ratio']:g}  ({row['goal']})",
            MET if row["met"] else MISSED,
        )
        for row in results
        if row["ratio"] is not None and row["goal"] and not row["name"].startswith("memory")
    ]  # fmt: skip


def cpu(results: Sequence[dict[str, Any]]) -> list[Bar]:
    return [
        Bar(
            row["name"].removeprefix(CPU), row["value"], f"{row['value']:g}",
            NEUTRAL if row["met"] is None else MET if row["met"] else MISSED,
        )
        for row in results
        if row["name"].startswith(CPU)
    ]  # fmt: skip


def memory(results: Sequence[dict[str, Any]]) -> list[Bar]:
    return [
        Bar(
            row["name"].removeprefix("memory of "), row["value"], f"{row['value']:g}",
            NEUTRAL if row["met"] is None else MET if row["met"] else MISSED,
        )
        for row in results
        if row["name"].startswith("memory of ")
    ]  # fmt: skip


def scaling(results: Sequence[dict[str, Any]]) -> list[Bar]:
    return [
        Bar(row["name"].removeprefix("scaling: "), row["value"], f"{row['value']:g}")
        for row in results
        if row["name"].startswith("scaling: ") and row["unit"] == "messages/s"
    ]


def chart(title: str, bars: Sequence[Bar], mark: float | None) -> str:
    """Return a chart of horizontal bars as SVG."""
    height = 44 + ROW * len(bars)
    longest = max([*(bar.value for bar in bars), mark or 0]) or 1.0
    scale = (WIDTH - LABEL - VALUE - 140) / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="22" font-size="14" font-weight="600" fill="#222">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        top = 38 + ROW * number
        length = max(1.0, bar.value * scale)
        parts += [
            f'<text x="{LABEL - 8}" y="{top + 11}" text-anchor="end" fill="#222">'
            f"{escape(bar.label)}</text>",
            f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"'
            f' fill="{bar.color}"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{top + 11}" fill="#222">'
            f"{escape(bar.text)}</text>",
        ]
    if mark is not None:
        at = LABEL + mark * scale
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="32" y2="{height - 6}" stroke="#222"'
            ' stroke-dasharray="3 3"/>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
