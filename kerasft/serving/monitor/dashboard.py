"""What Grafana and Prometheus read of the monitor: a dashboard, and rules for alerts."""

import os
from typing import Any

import yaml

from kerasft._core import files

DASHBOARD, ALERTS = "kerasft-dashboard.json", "kerasft-alerts.yaml"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# (title, unit, [(expression, legend)])
_PANELS = (
    (
        "Share of each class",
        "percentunit",
        [
            ('kerasft_class_share{model=~"$model"}', "{{label}}"),
            ('kerasft_class_share_reference{model=~"$model"}', "{{label}}, reference"),
        ],
    ),
    ("Alarms that stand", "short", [('kerasft_alarm{model=~"$model"} > 0', "{{rule}} {{key}}")]),
    (
        "PSI against the training data (0.1 look, 0.25 act)",
        "short",
        [('kerasft_drift{model=~"$model",statistic="psi"}', "{{feature}}")],
    ),
    (
        "Kolmogorov-Smirnov, MMD²",
        "short",
        [('kerasft_drift{model=~"$model",statistic=~"ks|mmd2"}', "{{feature}} {{statistic}}")],
    ),
    (
        "Mean of each feature over that of the reference",
        "short",
        [
            (
                'kerasft_feature_mean{model=~"$model"} / '
                'kerasft_feature_mean_reference{model=~"$model"}',
                "{{feature}}",
            )
        ],
    ),
    (
        "Rows a second: read, broken, dropped by the server",
        "short",
        [
            ("rate(kerasft_rows_total[5m])", "read"),
            ("rate(kerasft_broken_rows_total[5m])", "broken"),
            ("rate(kerasft_lost_files_total[5m])", "files turned over unread"),
            ("rate(kerasft_log_rows_dropped_total[5m])", "dropped by the server's log"),
        ],
    ),
)
# (name, expression, for, severity, summary)
_ALERTS = (
    (
        "KerasftAlarm",
        'kerasft_alarm{severity="alarm"} > 0',
        "0m",
        "critical",
        "{{ $labels.model }}: {{ $labels.rule }} stands for {{ $labels.key }}",
    ),
    (
        "KerasftWarning",
        'kerasft_alarm{severity="warn"} > 0',
        "1h",
        "warning",
        "{{ $labels.model }}: {{ $labels.rule }} has stood for {{ $labels.key }} for an hour",
    ),
    (
        "KerasftMonitorSilent",
        "time() - kerasft_window_end_timestamp_seconds > 7200",
        "10m",
        "warning",
        "{{ $labels.model }}: the newest window ended more than two hours ago",
    ),
    (
        "KerasftLogBroken",
        "rate(kerasft_broken_rows_total[15m]) > 0.01 * rate(kerasft_rows_total[15m])",
        "15m",
        "warning",
        "More than one line of the log in a hundred is no row",
    ),
    (
        "KerasftLogDropped",
        "increase(kerasft_log_rows_dropped_total[15m]) > 0",
        "0m",
        "warning",
        "The server drops rows of its log: the disk or the machine is too slow",
    ),
    (
        "KerasftWebhookFails",
        "increase(kerasft_webhook_failures_total[15m]) > 0",
        "0m",
        "warning",
        "An alarm did not reach the webhook",
    ),
)


def dashboard() -> dict[str, Any]:
    """Grafana's dashboard, as JSON types; it asks for the data source when it is imported."""
    variable = {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": "label_values(kerasft_window_rows, model)", "refId": "model"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
    source = {"name": "datasource", "label": "Data source", "type": "datasource"}
    return {
        "uid": "kerasft-monitor",
        "title": "kerasft: what a served model is asked",
        "tags": ["kerasft"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [source | {"query": "prometheus"}, variable]},
        "panels": [_panel(i, *panel) for i, panel in enumerate(_PANELS)],
    }


def _panel(number: int, title: str, unit: str, targets: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [
            {"refId": chr(65 + i), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for i, (expr, legend) in enumerate(targets)
        ],
    }


def alert_rules() -> dict[str, Any]:
    """Prometheus' alerting rules, as YAML types."""
    rules = [
        {
            "alert": name,
            "expr": expr,
            "for": lasting,
            "labels": {"severity": severity},
            "annotations": {"summary": summary},
        }
        for name, expr, lasting, severity, summary in _ALERTS
    ]
    return {"groups": [{"name": "kerasft", "rules": rules}]}


def write_dashboard(folder: str | os.PathLike) -> list[str]:
    """Write `kerasft-dashboard.json` and `kerasft-alerts.yaml` into a folder; their paths."""
    paths = [files.join(folder, name) for name in (DASHBOARD, ALERTS)]
    files.write_json(paths[0], dashboard())
    text = yaml.safe_dump(alert_rules(), sort_keys=False, allow_unicode=True, width=100)
    files.write_text(paths[1], text)
    return paths
