"""What the monitor tells Prometheus."""

from collections.abc import Iterable
from typing import Any

from kerasft._core.errors import InputError
from kerasft._core.extras import require
from kerasft.serving.monitor.compare import Finding
from kerasft.serving.monitor.rules import Watch
from kerasft.serving.monitor.windows import Window

# Name -> (what it is, its labels); counters get `_total` behind.
GAUGES = {
    "kerasft_drift": (
        "How far a feature is from the reference.",
        ("model", "feature", "statistic"),
    ),
    "kerasft_class_share": ("Share of the rows that got a class.", ("model", "label")),
    "kerasft_class_share_reference": ("The share in the reference.", ("model", "label")),
    "kerasft_feature_mean": ("Mean of a feature.", ("model", "feature")),
    "kerasft_feature_mean_reference": ("The mean in the reference.", ("model", "feature")),
    "kerasft_alarm": (
        "1 while a rule's alarm stands, else 0.",
        ("model", "rule", "key", "severity"),
    ),
    "kerasft_window_rows": ("Rows of the newest window.", ("model",)),
    "kerasft_window_end_timestamp_seconds": (
        "Time of the newest row of the newest window.",
        ("model",),
    ),
}
COUNTERS = {
    "kerasft_rows": ("Rows that were read.", ()),
    "kerasft_broken_rows": ("Lines of the log that were no row.", ()),
    "kerasft_lost_files": ("Files of the log that were turned over unread.", ()),
    "kerasft_webhook_failures": ("Events that the webhook did not take.", ()),
}


class Gauges:
    """The monitor's page.

    Raises:
        MissingExtra: without prometheus-client.

    Example:
        gauges = Gauges()
        stop = gauges.serve(9109)
    """

    def __init__(self):
        client = require("prometheus_client", "serving")
        client.disable_created_metrics()
        self._client, self._registry = client, client.CollectorRegistry()
        self._gauges = {
            name: client.Gauge(name, text, labels, registry=self._registry)
            for name, (text, labels) in GAUGES.items()
        }
        self._counters = {
            name: client.Counter(name, text, labels, registry=self._registry)
            for name, (text, labels) in COUNTERS.items()
        }

    def count(self, name: str, by: int = 1) -> None:
        """Count one of `COUNTERS`."""
        self._counters[name].inc(by)

    def show(self, model: str, window: Window, findings: Iterable[Finding], watch: Watch) -> None:
        """Show a window."""
        self._set("kerasft_window_rows", window.rows, model)
        if window.last is not None:
            self._set("kerasft_window_end_timestamp_seconds", window.last, model)
        for found in findings:
            if found.quantity in ("psi", "ks", "mmd2"):
                self._set("kerasft_drift", found.value, model, found.key, found.quantity)
                if found.p_value is not None:
                    self._set("kerasft_drift", found.p_value, model, found.key, "ks_p_value")
                continue
            name = f"kerasft_{'class_share' if found.quantity == 'class_share' else 'feature_mean'}"
            self._set(name, found.value, model, found.key)
            self._set(f"{name}_reference", found.reference, model, found.key)
        for rule, key, standing in watch.all():
            self._set("kerasft_alarm", int(standing), model, rule.name, key, rule.severity)

    def _set(self, name: str, value: float, *labels: str) -> None:
        self._gauges[name].labels(*labels).set(value)

    def page(self) -> str:
        """Prometheus' text format."""
        return self._client.generate_latest(self._registry).decode("utf-8")

    def serve(self, port: int, host: str = "127.0.0.1") -> Any:
        """Answer at http://HOST:PORT/metrics; a function of no arguments that ends it.

        Raises:
            InputError: for a port in use.
        """
        try:
            server, thread = self._client.start_http_server(port, host, self._registry)
        except (OSError, OverflowError) as error:
            raise InputError(f"--port {port}: nothing can listen there: {error}.") from None

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        stop.port = server.server_port
        return stop
