"""A view as people and as programs read it."""

from typing import Any

from kerasft.serving.monitor.compare import Finding
from kerasft.serving.monitor.rows import told
from kerasft.serving.monitor.run import View

_HEAD = ("quantity", "reference", "now", "statistic", "rows", "state")


def table(view: View) -> str:
    """One table for a window, and lines for what was read, what was broken, and what stands."""
    lines = [_about(view)]
    if view.findings:
        rows = [_HEAD, *(_cells(found, state) for found, state in view.findings)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    elif view.window is not None:
        lines.append("Nothing in this window can be compared with the reference.")
    lines += [f"left out: {count} x {reason}" for reason, count in sorted(view.broken.items())]
    if view.late:
        lines.append(f"{view.late} rows came late: their clock was before their window's.")
    for event in view.events:
        what = event["event"].upper() if event["severity"] == "alarm" else event["event"]
        lines.append(f"{what}: {event['rule']}, {event['key']} is {event['value']:.4g}")
    lines += [f"An alarm stands: {rule} ({key})" for rule, key in view.alarms]
    return "\n".join(map(_printable, lines))


def to_json(view: View) -> dict[str, Any]:
    """A view in JSON types."""
    window = view.window
    return {
        "model": view.model,
        "window": None
        if window is None
        else {"rows": window.rows, "from": told(window.first), "to": told(window.last)},
        "findings": [found.to_json() | {"state": state} for found, state in view.findings],
        "events": list(view.events),
        "alarms": [{"rule": rule, "key": key} for rule, key in view.alarms],
        "rows": view.rows,
        "broken": view.broken,
        "late": view.late,
    }


def _about(view: View) -> str:
    if view.window is None:
        return "The log holds no row yet."
    span = f", {told(view.window.first)} to {told(view.window.last)}" if view.window.first else ""
    return f"{view.model}: the newest window has {view.window.rows} of {view.rows} rows{span}"


def _cells(found: Finding, state: str) -> tuple[str, ...]:
    name = f"{found.quantity} {found.key}"
    if found.quantity in ("class_share", "mean"):
        change = found.value - found.reference
        said = f"{change:+.3g}"
        if found.low is not None:
            said += f" ({found.low:+.3f} to {found.high:+.3f})"
        return name, f"{found.reference:.4g}", f"{found.value:.4g}", said, str(found.rows), state
    said = f"{found.value:.4g}"
    if found.p_value is not None:
        said += f" (p {found.p_value:.2g})"
    return name, "", "", said, str(found.rows), state


def _printable(line: str) -> str:
    """A line that cannot steer a terminal, whatever a log's names hold."""
    return "".join(c if c.isprintable() else "?" for c in line)
