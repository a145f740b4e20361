"""The monitor: read the log, judge its windows, tell."""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kerasft._core.errors import InputError
from kerasft.export.profile import Reference
from kerasft.serving.monitor.alarms import AlarmFile, Webhook
from kerasft.serving.monitor.compare import Finding, compare
from kerasft.serving.monitor.gauges import Gauges
from kerasft.serving.monitor.rows import Broken, Row, of_prediction_log, parse, told
from kerasft.serving.monitor.rules import Watch, default_rules, read_rules
from kerasft.serving.monitor.tail import Tail
from kerasft.serving.monitor.windows import Window, Windows, span_of
from kerasft.serving.tfrecord import records

_KINDS = 20  # reasons and labels that are told one by one


@dataclass(frozen=True)
class Options:
    """What is watched, and who is told.

    Args:
        log: the request log, JSON lines of `kerasft serve --log`; LOG.1 is read before it. A
            name that ends in .tfrecord is TF Serving's: records of `PredictionLog`.
        reference: path of reference.json.
        window: rows of a window, or its time: `1000`, `30m`, `1h`, `1d`.
        rules: path of rules in YAML; the default ones alone when None.
        model: the model whose rows are read; needed where the log holds several.
        embeddings: path of reference embeddings, .npy of [rows, width], to compare those of the
            log with; None for no comparison.
        alarms: path of a file for what is raised and cleared.
        webhook: an address that what is raised and cleared is posted to.
        follow: read on as the log grows.
        port: of the page for Prometheus on 127.0.0.1, while following; 0 for any free one.
        poll: seconds between looks while following.
    """

    log: str
    reference: str
    window: str = "1000"
    rules: str | None = None
    model: str | None = None
    embeddings: str | None = None
    alarms: str | None = None
    webhook: str | None = None
    follow: bool = False
    port: int | None = None
    poll: float = 0.5

    def __post_init__(self):
        if self.port is not None and not self.follow:
            raise InputError("--port is read while the monitor runs: it goes with --follow.")
        if self.recorded and self.follow:
            raise InputError("A log of PredictionLog records is read once, without --follow.")

    @property
    def recorded(self) -> bool:
        """Whether the log is TF Serving's own."""
        return self.log.endswith((".tfrecord", ".tfrecords"))


@dataclass(frozen=True)
class View:
    """What the monitor says of one window.

    Args:
        model: its name.
        window: the window, None where the log has no row yet.
        findings: its quantities with their states, `ok`, `warn` or `alarm`.
        events: what was raised and cleared.
        rows: read so far.
        broken: reason -> lines that were no row.
        late: rows from before their window.
        alarms: names of the rules whose alarm stands, with their keys.
    """

    model: str
    window: Window | None
    findings: tuple[tuple[Finding, str], ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    rows: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    late: int = 0
    alarms: tuple[tuple[str, str], ...] = ()

    @property
    def alarming(self) -> bool:
        """Whether an alarm stands."""
        return bool(self.alarms)


def watch(
    options: Options,
    show: Callable[[View], None] = lambda view: None,
    stop: threading.Event | None = None,
    ready: Callable[[int | None], None] = lambda port: None,
) -> View:
    """Read a log, judge its windows, raise and clear alarms.

    Args:
        options: what is watched, and who is told.
        show: is given each window that is whole; without `follow` the last one too.
        stop: ends the following when it is set.
        ready: is given the port of Prometheus' page once it answers.

    Returns:
        The newest window; without rows one that says so.

    Raises:
        InputError: for a log, reference or rules that are wrong, a reference of another model, or
            several models in the log.

    Example:
        >>> view = watch(Options("requests.jsonl", "reference.json"))
        >>> view.alarming
        False
    """
    monitor = _Monitor(options, show)
    with contextlib.ExitStack() as ends:
        ends.callback(monitor.close)
        page = None
        if options.port is not None:
            end = monitor.gauges.serve(options.port)
            ends.callback(end)
            page = end.port
        ready(page)
        if options.recorded:
            for record in records(options.log):
                monitor.take(record, of_prediction_log)
            return monitor.finish()
        tail = Tail(options.log, options.follow)
        ends.callback(tail.close)
        stop = stop or threading.Event()
        while True:
            for line in tail.lines():
                if line is None or line.strip():
                    monitor.take(line, lambda found: [parse(found, time.time())])
                if stop.is_set():
                    break
            monitor.lost(tail.lost)
            if not options.follow:
                return monitor.finish()
            monitor.tick(time.time())
            if stop.wait(options.poll):
                return monitor.view


class _Monitor:
    """What `watch` keeps from line to line."""

    def __init__(self, options: Options, show: Callable[[View], None]):
        self._options, self._show = options, show
        self._reference = Reference.load(options.reference)
        rules = read_rules(options.rules, self._reference) if options.rules else default_rules()
        self._watch = Watch(rules)
        self._vectors = _vectors(options.embeddings)
        features = self._reference.features
        known = self._reference.labels or None
        self._windows = Windows(
            *span_of(options.window), features, self._vectors is not None, known
        )
        self.gauges = Gauges()
        self._file = None if options.alarms is None else AlarmFile(options.alarms)
        self._webhook = None
        if options.webhook is not None:
            failed = partial(self.gauges.count, "kerasft_webhook_failures")
            self._webhook = Webhook(options.webhook, failed=failed)
        self._model = options.model
        self._strange: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._rows = self._lost = 0
        self._judged = False
        self.view = View(self._model or "", None)

    def take(self, found: bytes | None, rows: Callable[[bytes], Iterable[Row]]) -> None:
        """Take the rows of a line; what is no row is counted."""
        try:
            if found is None:
                raise Broken("too long, or cut off")
            for row in rows(found):
                self._add(row)
        except Broken as error:
            self._count_broken(str(error))

    def _count_broken(self, reason: str) -> None:
        known = reason in self._broken or len(self._broken) < _KINDS
        self._broken[reason if known else "other"] += 1
        self.gauges.count("kerasft_broken_rows")

    def lost(self, files: int) -> None:
        """Count files that were turned over unread."""
        if files > self._lost:
            self.gauges.count("kerasft_lost_files", files - self._lost)
            self._broken["a file turned over unread"] += files - self._lost
            self._lost = files

    def _add(self, row: Row) -> None:
        if self._options.model is not None and row.model != self._options.model:
            return
        if self._model is None:
            self._model = row.model
        if row.model != self._model:
            raise InputError(
                f"The log holds rows of several models: {self._model!r}, {row.model!r}. "
                "Say which one: --model NAME."
            )
        vectors, vector = self._vectors, row.embedding
        if vectors is not None and vector is not None and len(vector) != vectors.shape[1]:
            raise Broken("an embedding of another width")
        self._rows += 1
        self.gauges.count("kerasft_rows")
        strange = set(row.classes or ()) - set(self._reference.labels)
        if strange and self._reference.labels:
            self._count_broken("a class that the reference lacks")
            if len(self._strange) < _KINDS:
                self._strange.update(strange)
        done = self._windows.add(row)
        if done is not None:
            self._judge(done)

    def tick(self, now: float) -> None:
        """Judge a window of time that has ended by the clock."""
        done = self._windows.expired(now)
        if done is not None:
            self._judge(done)

    def finish(self) -> View:
        """Judge what is left, and give the newest window."""
        if self._windows.open is not None:
            self._judge(self._windows.open)
        elif self.view.window is None:
            self.view = self._seen(None)
        else:  # broken lines may have come since
            self.view = self._seen(self.view.window, self.view.findings, self.view.events)
        return self.view

    def _judge(self, window: Window) -> None:
        if not self._judged:
            self._check_labels(window)
        self._judged = True
        findings = compare(self._reference, window, self._vectors)
        span = {"from": told(window.first), "to": told(window.last), "start": window.start}
        facts = {"time": told(window.last), "model": self._model, "window": span}
        events = [facts | event for event in self._watch.judge(findings)]
        states = tuple((found, self._watch.state_of(found)) for found in findings)
        self.gauges.show(self._model or "", window, findings, self._watch)
        for event in events:
            # What the file holds already, from a run before, goes nowhere else.
            new = self._file is None or self._file.add(event)
            if new and self._webhook is not None:
                self._webhook.add(event)
        self.view = self._seen(window, states, tuple(events))
        self._show(self.view)

    def _seen(self, window: Window | None, states: Any = (), events: Any = ()) -> View:
        alarms = tuple((rule.name, key) for rule, key in self._watch.standing())
        return View(
            self._model or "",
            window,
            states,
            events,
            self._rows,
            dict(self._broken),
            self._windows.late,
            alarms,
        )

    def _check_labels(self, window: Window) -> None:
        """A reference of another model shows in the first window."""
        if self._strange:
            known = ", ".join(self._reference.labels)
            found = ", ".join(map(repr, sorted(self._strange)))
            raise InputError(
                f"{self._options.reference} is of another model: its labels are {known}. "
                f"Received: {found} in {self._options.log}."
            )

    def close(self) -> None:
        """Let the webhook send what waits."""
        if self._webhook is not None:
            self._webhook.close()


def _vectors(path: str | None) -> np.ndarray | None:
    """Embeddings of a .npy file."""
    if path is None:
        return None
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{os.fspath(path)} is no array of embeddings (.npy): {error}.") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or len(found) < 2:
        raise InputError(f"{path} must hold embeddings, [rows, width], at least 2 rows.")
    return found
