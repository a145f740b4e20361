"""The report as text: for a terminal of 80 columns, and for report.txt."""

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kerasft.evaluation._fonts import cut, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kerasft.evaluation.report import Report

_SHOWN_CLASSES, _SHOWN_WORST = 20, 3
LESS_IS_BETTER = {
    *("ece", "log_loss", "hamming_loss", "mse", "mae", "perplexity", "nll", "share_empty"),
}
# What is neither better nor worse for being more.
_FACTS = {
    *("mean_tokens", "mean_characters", "length_ratio", "tokens", "queries"),
    *("queries_without_relevant", "best_exact_match_threshold", "best_f1_threshold"),
}
_NOUNS = {"multilabel": "labels", "entities": "kinds of entities"}


def show(report: "Report", console: "Console | None" = None) -> None:
    """Print the report; what the output's encoding lacks becomes a question mark."""
    from rich.console import Console

    console = console or Console()
    encoding = console.encoding
    any_text = encoding.startswith("utf")
    with contextlib.nullcontext() if any_text else console.capture() as caught:
        for part in _parts(report, _SHOWN_CLASSES, _SHOWN_WORST):
            console.print(part, highlight=False)
    if caught:
        console.file.write(caught.get().encode(encoding, "replace").decode(encoding))


def as_text(report: "Report") -> str:
    """The content of report.txt: the scores, scikit-learn's report, all kept wrong examples."""
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=100, color_system=None, highlight=False)
    shown = 0 if report.text else len(report.after.get("per_class", ()))
    for part in _parts(report, shown, len(report.worst), report.text):
        console.print(part, highlight=False)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _parts(report: "Report", classes: int, worst: int, text: str = "") -> Iterator[Any]:
    from rich.text import Text

    yield Text(_headline(report), style="bold")
    yield _scores(report)
    if text:
        yield Text(text.rstrip("\n") + "\n", no_wrap=True)
    if classes and report.after.get("per_class"):
        yield _per_class(report, classes)
    if worst and report.worst:
        numbers = "error" in report.worst[0]
        heading = "Largest errors" if numbers else "Most confidently wrong"
        yield Text(heading, style="bold")
        for example in report.worst[:worst]:
            yield from _example(example)


def _headline(report: "Report") -> str:
    words = [f"{report.task}, {report.split}: {report.rows:,} rows"]
    noun = _NOUNS.get(report.kind, "classes")
    words += [f"{len(report.labels)} {noun}"] if report.labels else []
    words += [f"fine-tuned in {report.fit_seconds:,.0f} s"] if report.fit_seconds else []
    return ", ".join(words)


def _scores(report: "Report") -> "Table":
    before = report.before
    table = _table("", *(["before", "after", "change"] if before else ["score"]))
    for name, value in report.after.items():
        if isinstance(value, (dict, list)):
            continue
        row = [name, _number(value)]
        if before:
            old = before.get(name)
            row = [name, _number(old), _number(value), _change(name, old, value)]
        table.add_row(*row)
    return table


def _per_class(report: "Report", most: int) -> "Table":
    classes = report.after["per_class"]
    columns = list(next(iter(classes.values())))
    before = (report.before or {}).get("per_class", {})
    table = _table("class", *columns, *(["f1 before"] if before else []))
    room = 24 if len(table.columns) < 7 else 13  # 80 columns in all
    for label in _hardest(classes, most):
        cells = [_number(classes[label].get(column)) for column in columns]
        cells += [_number(before.get(label, {}).get("f1"))] if before else []
        table.add_row(cut(one_line(label), room), *cells)
    if len(classes) > most:
        table.caption = f"the {most} of {len(classes)} classes with the lowest F1"
    return table


def _hardest(classes: dict[str, dict], most: int) -> list[str]:
    """All labels in their order, or those with the lowest F1, the lowest first."""
    if len(classes) <= most:
        return list(classes)
    defined = [label for label, scores in classes.items() if scores["f1"] is not None]
    return sorted(defined, key=lambda label: classes[label]["f1"])[:most]


def _example(example: dict[str, Any]) -> Iterator[Any]:
    from rich.padding import Padding
    from rich.text import Text

    known = ("row", "expected", "predicted", "confidence", "error", "score", "tokens")
    texts = {name: value for name, value in example.items() if name not in known}
    measure = "error" if "error" in example else "confidence"
    line = f"row {example['row']}, {measure} {_number(example[measure])}"
    if "expected" in example:
        answers = [_answer(example[key]) for key in ("predicted", "expected")]
        line += f": predicted {answers[0]} instead of {answers[1]}"
    yield Text(line)
    for name, value in texts.items():
        shown = cut(one_line(str(value)), 210)
        yield Padding(Text(shown if len(texts) == 1 else f"{name}: {shown}", style="dim"), (0, 2))


def _table(first: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _answer(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(map(_answer, value)) or "no label"
    if isinstance(value, dict):
        return f"{cut(one_line(value['label']), 24)} {value['start']}-{value['end']}"
    if value == "":
        return "nothing"
    return cut(one_line(value), 24) if isinstance(value, str) else _number(value)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"
    return "-" if value is None else str(value)


def _change(name: str, before: Any, after: Any) -> Any:
    from rich.text import Text

    if before is None or after is None:
        return Text("")
    better = (after < before) if name in LESS_IS_BETTER else (after > before)
    style = "" if after == before or name in _FACTS else "green" if better else "red"
    return Text(f"{after - before:+.4f}", style=style)
