"""Rules: from which value on, for how many windows, a finding is an alarm."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasft._core import files
from kerasft._core.checks import nearest, one_of, whole
from kerasft._core.errors import InputError
from kerasft.export.profile import Reference
from kerasft.serving.monitor.compare import CLASSES, EMBEDDING, QUANTITIES, Finding
from kerasft.training import yaml_text

TESTS = ("above", "below", "rises_by", "falls_by")
SEVERITIES = ("warn", "alarm")
_WORDS = {"least": "rows?", "for": "windows?"}
_AGAINST = ("class_share", "mean")  # quantities with a value in the reference


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        name: of the alarm.
        quantity: `class_share`, `psi`, `ks`, `mean` or `mmd2`.
        test: `above` or `below` (a value), `rises_by` or `falls_by` (against the reference).
        limit: the value from beyond which the rule holds.
        key: the label, or the feature, that it looks at; every one when None.
        least: rows without which a window says nothing.
        lasting: windows in a row for which it has to hold, and then not to hold to be cleared:
            one window at the edge would clear an alarm and raise it again.
        severity: `warn` or `alarm`.

    Example:
        >>> Rule("negative-jump", "class_share", "rises_by", 0.15, key="negative", lasting=2)
    """

    name: str
    quantity: str
    test: str
    limit: float
    key: str | None = None
    least: int = 50
    lasting: int = 1
    severity: str = "alarm"

    def __post_init__(self):
        one_of("quantity", self.quantity, QUANTITIES)
        one_of("severity", self.severity, SEVERITIES)
        one_of("test", self.test, TESTS)
        whole("least", self.least, 1)
        whole("for", self.lasting, 1)
        number = isinstance(self.limit, int | float) and not isinstance(self.limit, bool)
        if not number or not math.isfinite(self.limit):
            raise InputError(f"`{self.test}` is a number. Received: {self.limit!r}.")
        if self.test in ("rises_by", "falls_by"):
            if self.quantity not in _AGAINST:
                raise InputError(
                    f"`{self.test}` goes with {' and '.join(_AGAINST)}: {self.quantity} compares "
                    "with the reference already. Write `above`."
                )
            if self.limit <= 0:
                raise InputError(f"`{self.test}` is more than 0. Received: {self.limit}.")

    def looks_at(self, finding: Finding) -> bool:
        """Whether the rule is about a finding, and the finding has the rows for it."""
        same = finding.quantity == self.quantity and self.key in (None, finding.key)
        return same and finding.rows >= self.least

    def holds(self, finding: Finding) -> bool:
        """Whether a finding is beyond the limit."""
        if self.test == "above":
            return finding.value > self.limit
        if self.test == "below":
            return finding.value < self.limit
        change = finding.value - (finding.reference or 0.0)
        return (change if self.test == "rises_by" else -change) > self.limit


def default_rules() -> tuple[Rule, ...]:
    """What is watched without a rule: PSI of every feature and of the classes.

    Of 300 rows PSI is above 0.1 by chance in about 1 of 2,000 windows (10 bins: 300 * 0.1 = 30
    of a chi-square of 9 degrees of freedom).
    """
    return (
        Rule("psi-warn", "psi", "above", 0.1, least=300, severity="warn"),
        Rule("psi-alarm", "psi", "above", 0.25, least=300),
    )


def read_rules(path: str | os.PathLike, reference: Reference) -> tuple[Rule, ...]:
    """The rules of a YAML file, after the default ones; a rule of the same name replaces those.

    Args:
        path: the file, a list of rules: `name`, `quantity`, `label` or `feature`, one of `above`,
            `below`, `rises_by`, `falls_by`, and `least`, `for`, `severity`; or `name` and
            `off: true`.
        reference: what is compared with; a label or feature that it lacks is a mistake.

    Raises:
        InputError: naming the rule and what is wrong.
    """
    told = os.fspath(path)
    try:
        text = files.read_bytes(path).decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"There is no file {told}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{told} is no UTF-8 text.") from None
    found = yaml_text.parse(text, told)
    if not isinstance(found, list):
        raise InputError(f"{told}: rules are a list, each `- name: ...`. Received: {found!r:.60}.")
    rules = {rule.name: rule for rule in default_rules()}
    named = set()
    for number, given in enumerate(found, 1):
        name = given.get("name") if isinstance(given, dict) else None
        if not isinstance(name, str) or not name:
            raise InputError(
                f"{told}, rule {number}: a rule has a `name`. Received: {given!r:.60}."
            )
        if name in named:
            raise InputError(f"{told}: two rules are called {name!r}.")
        named.add(name)
        if given.get("off") is True and set(given) == {"name", "off"}:
            rules.pop(name, None)
            continue
        try:
            rules[name] = _rule(given, reference)
        except InputError as error:
            raise InputError(f"{told}, rule {name!r}: {error}") from None
    return tuple(rules.values())


def _rule(given: dict[str, Any], reference: Reference) -> Rule:
    known = {"name", "quantity", "label", "feature", "least", "for", "severity", *TESTS}
    for key in given:
        if key not in known:
            raise InputError(f"there is no key {key!r}.{nearest(key, known)}")
    tests = [test for test in TESTS if test in given]
    if len(tests) != 1:
        raise InputError(f"a rule has one of {', '.join(TESTS)}. Received: {tests or 'none'}.")
    quantity = one_of("quantity", given.get("quantity"), QUANTITIES)
    more = {"severity": given["severity"]} if "severity" in given else {}
    for name, field_name in (("least", "least"), ("for", "lasting")):
        if name in given:
            more[field_name] = _counted(name, given[name])
    key = _key(given, quantity, reference)
    return Rule(given["name"], quantity, tests[0], given[tests[0]], key=key, **more)


def _counted(name: str, value: Any) -> Any:
    """A number, or one with its word: `50 rows`, `2 windows`."""
    found = re.fullmatch(rf"(\d+) {_WORDS[name]}", value) if isinstance(value, str) else None
    return int(found[1]) if found else value


def _key(given: dict[str, Any], quantity: str, reference: Reference) -> str | None:
    word, other = ("label", "feature") if quantity == "class_share" else ("feature", "label")
    if other in given:
        raise InputError(f"{quantity} goes with `{word}`. Received: `{other}`.")
    names = {
        "class_share": reference.labels,
        "psi": (*reference.features, CLASSES),
        "mmd2": (EMBEDDING,),
    }.get(quantity, tuple(reference.features))
    return one_of(word, given[word], names) if word in given else None


@dataclass
class _Episode:
    """Where a rule stands with one key; `other`: windows in a row that said otherwise."""

    other: int = 0
    standing: bool = False


@dataclass
class Watch:
    """The episodes of rules: an alarm is raised once, and cleared once.

    Args:
        rules: the rules.

    Example:
        >>> events = Watch(default_rules()).judge(compare(reference, window))
    """

    rules: Sequence[Rule]
    _episodes: dict[tuple[str, str], _Episode] = field(default_factory=dict)

    def judge(self, findings: Iterable[Finding]) -> list[dict[str, Any]]:
        """Take the findings of a window; what was raised and cleared by them.

        A finding of too few rows changes nothing.
        """
        events = []
        findings = list(findings)
        for rule in self.rules:
            for finding in filter(rule.looks_at, findings):
                episode = self._episodes.setdefault((rule.name, finding.key), _Episode())
                holds = rule.holds(finding)
                episode.other = episode.other + 1 if holds != episode.standing else 0
                if episode.other >= rule.lasting:
                    episode.standing, episode.other = holds, 0
                    events.append(_event(rule, finding, "raised" if holds else "cleared"))
        return events

    def all(self) -> list[tuple[Rule, str, bool]]:
        """Rule, key, and whether it stands, of all that was looked at."""
        rules = {rule.name: rule for rule in self.rules}
        return [(rules[name], key, e.standing) for (name, key), e in self._episodes.items()]

    def standing(self, severity: str = "alarm") -> list[tuple[Rule, str]]:
        """The alarms (or warnings) that stand: rule and key."""
        return [(r, key) for r, key, there in self.all() if there and r.severity == severity]

    def state_of(self, finding: Finding) -> str:
        """`ok`, `warn` or `alarm`: the worst of what stands about a finding."""
        for severity in reversed(SEVERITIES):
            for rule, key in self.standing(severity):
                if rule.quantity == finding.quantity and key == finding.key:
                    return severity
        return "ok"


def _event(rule: Rule, finding: Finding, what: str) -> dict[str, Any]:
    return {
        "event": what,
        "rule": rule.name,
        "severity": rule.severity,
        "test": rule.test,
        "limit": rule.limit,
        "for": rule.lasting,
        **finding.to_json(),
    }
