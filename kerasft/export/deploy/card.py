"""A model card: what a model answers, how it was made, how good it is, and where it ends."""

import json
import os
from collections.abc import Mapping
from typing import Any

import yaml

from kerasft._core import files

PLACE = "assets.extra/model_card.md"
NO_RUN = "This model was exported without a run folder, so nothing is known of it here."
# Task -> what it answers.
ANSWERS = {
    "causal-lm": "goes on with a text",
    "masked-lm": "fills masked places of a text",
    "question-answering": "finds the answer to a question in a text",
    "relation-extraction": "names the relation of two marked entities",
    "text-classification": "labels a text",
    "text-similarity": "makes a vector of a text, near to those of like texts",
    "text-to-text": "writes a text from a text",
    "token-classification": "finds entities in a text",
    "zero-shot-classification": "labels a text with labels of the request",
}
_LONG_TEXTS = {
    "head": "the first {n} tokens are read, and the rest is left out",
    "head-tail": "{n} tokens of its beginning and its end are read, and the middle is left out",
}
_WINDOWS = "windows of {n} tokens are read{most}, which overlap"
_CUT = "no more than that is read"
_TODO = "(to be filled in)"


def read_run(folder: str | os.PathLike) -> dict[str, Any]:
    """What a run folder says of its model, as far as the files are there.

    Args:
        folder: what `kerasft train --out` wrote, or what `Pipeline.save` wrote.

    Returns:
        `recipe`, `split`, `report` (the object of metrics.json), `model` (kerasft.json) and
        `reference` (reference.json), each a dictionary; those that are not there are left out.
    """
    found = {}
    recipe = files.join(folder, "recipe.yaml")
    if files.exists(recipe):
        found["recipe"] = yaml.safe_load(files.read_bytes(recipe))
    places = {
        "split": ("split.json",),
        "report": ("metrics.json",),
        "model": ("model/kerasft.json", "kerasft.json"),
        "reference": ("reference.json",),
    }
    for name, names in places.items():
        there = [path for n in names if files.exists(path := files.join(folder, n))]
        if there:
            found[name] = files.read_json(there[0])
    return {name: value for name, value in found.items() if isinstance(value, dict)}


def model_card(
    name: str,
    task: Mapping[str, Any],
    versions: Mapping[str, str],
    run: Mapping[str, Any] | None = None,
    version: int | None = None,
    int8: Mapping[str, Any] | None = None,
) -> str:
    """The model card in Markdown.

    Args:
        name: the model's name.
        task: the task's name and options, as kerasft.json holds them.
        versions: library -> version that the export was made with.
        run: what `read_run` gives; the card says so where there is none.
        version: the number of the export.
        int8: of weights in 8 bits, as `Description` has it.

    Returns:
        Markdown. What only people know (licence, intended use) is left to be filled in.

    Example:
        >>> model_card("spam", {"name": "text-classification"}, {}, read_run("runs/spam"))
    """
    run = run or {}
    title = f"# {_cell(name)}" + ("" if version is None else f", version {version}")
    sections = {
        "What it answers": _answers(task),
        "Data": _data(run.get("split"), run.get("report", {})),
        "Recipe": _recipe(run.get("recipe"), run.get("report", {})),
        "Metrics": _metrics(run.get("report")),
        **({"Weights": _weights(int8)} if int8 else {}),
        "Limits": _limits(task),
        "Licence and use": [
            f"- Licence of the model: {_TODO}",
            f"- Licence of the base model: {_TODO}",
            f"- Licence of the data: {_TODO}",
            f"- Intended use: {_TODO}",
            f"- Not for: {_TODO}",
            f"- Who to ask: {_TODO}",
        ],
        "Versions": _table(("library", "version"), versions.items()),
    }
    parts = [title]
    for heading, lines in sections.items():
        parts.append("\n".join([f"## {heading}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _answers(task: Mapping[str, Any]) -> list[str]:
    kind = str(task.get("name", ""))
    lines = [f"The model {ANSWERS.get(kind, 'answers texts')} (task `{kind}`)."]
    labels = list(task.get("labels") or ())
    if labels:
        lines += ["", f"Labels, in the order of the probabilities ({len(labels)}):", ""]
        lines += [f"{i}. {_cell(label)}" for i, label in enumerate(labels)]
    return lines


def _data(split: Mapping[str, Any] | None, report: Mapping[str, Any]) -> list[str]:
    if not split:
        return [NO_RUN]
    rows = split.get("rows", {})
    counts = split.get("counts", {})
    labels = sorted({label for part in counts.values() for label in part})
    body = []
    for part in split.get("names", rows):
        source = os.path.basename(str(split.get("sources", {}).get(part, "")))
        numbers = [counts.get(part, {}).get(label, 0) for label in labels]
        body.append((part, source, rows.get(part, 0), *(f"{n:,}" for n in numbers)))
    lines = _table(("part", "source", "rows", *labels), body)
    lines += ["", f"Split with seed {split.get('seed')}; SHA-256 `{split.get('sha256', '')}`."]
    if report.get("split"):
        lines += [f"Scored on `{_cell(report['split'])}`, {report.get('rows', 0):,} rows."]
    return lines


def _recipe(recipe: Mapping[str, Any] | None, report: Mapping[str, Any]) -> list[str]:
    if not recipe:
        return [NO_RUN]
    text = yaml.safe_dump(_named(dict(recipe)), sort_keys=False, allow_unicode=True).rstrip("\n")
    fence = "`" * (3 + text.count("```"))
    lines = [f"{fence}yaml", *text.split("\n"), fence]
    extra, seconds = report.get("extra", {}), report.get("fit_seconds")
    if extra.get("parameters"):
        lines += [
            "",
            f"{extra['parameters']:,} parameters, {extra.get('trainable_parameters', 0):,} trained"
            + (f", in {seconds:,.0f} seconds." if seconds else "."),
        ]
    return lines


def _named(value: Any) -> Any:
    """Files and presets without the folders of the machine that they were on."""
    if isinstance(value, Mapping):
        return {key: _named(part) for key, part in value.items()}
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def _metrics(report: Mapping[str, Any] | None) -> list[str]:
    if not report:
        return [NO_RUN]
    before, after = report.get("before") or {}, report.get("after") or {}
    body = [(name, _number(before.get(name)), _number(value)) for name, value in after.items()]
    lines = _table(("score", "before", "after"), body)
    per_class = {n: s for n, s in (report.get("per_class") or {}).items() if isinstance(s, dict)}
    if per_class:
        heads = list(next(iter(per_class.values())))
        body = [(n, *(_number(s.get(h)) for h in heads)) for n, s in per_class.items()]
        lines += ["", *_table(("class", *heads), body)]
    return lines


def _weights(int8: Mapping[str, Any]) -> list[str]:
    return [
        f"{int8['matrices']} matrices are stored in 8 bits, with one scale an output or a row; all "
        "other weights as floats. The scores above are those of the float weights. On odd texts "
        f"the outputs of both differ by at most {int8['difference']:.2%} of the largest."
    ]


def _limits(task: Mapping[str, Any]) -> list[str]:
    lines = []
    length = task.get("max_length")
    if length:
        plain = _WINDOWS if "overlap" in task else _CUT
        told = _LONG_TEXTS.get(task["long_texts"], plain) if "long_texts" in task else plain
        most = f", at most {task['max_windows']}" if task.get("max_windows") else ""
        told = told.format(n=length, most=most)
        lines.append(f"- Length: {length} tokens. Of a longer text {told}.")
    lines += [
        f"- Languages: {_TODO}; the model knows those of its base model and of the data above.",
        "- Other kinds of text than those of the data above were not scored.",
        f"- Known weaknesses and biases: {_TODO}",
    ]
    return lines


def _table(heads: Any, rows: Any) -> list[str]:
    body = [[_cell(value) for value in row] for row in rows]
    lines = [list(map(_cell, heads)), ["---"] * len(heads), *body]
    return [f"| {' | '.join(line)} |" for line in lines]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _cell(value: Any) -> str:
    """A value in one line that is no Markdown of its own: labels come from data."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    if any(not sign.isprintable() for sign in text):
        text = json.dumps(text, ensure_ascii=False)[1:-1]
    for sign in "\\|<>[]*_`#":
        text = text.replace(sign, f"\\{sign}")
    return text
