"""Rules, the file and the webhook of alarms, the page for Prometheus, and what Grafana reads."""

import http.client
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import request_logs as logs
import yaml
from half_plus_two import LONGEST, until

from kerasft._core.errors import InputError
from kerasft.cli.main import run
from kerasft.serving.metrics import Metrics
from kerasft.serving.monitor import Options, Rule, default_rules, read_rules, watch
from kerasft.serving.monitor.alarms import AlarmFile, Webhook
from kerasft.serving.monitor.compare import Finding
from kerasft.serving.monitor.dashboard import ALERTS, DASHBOARD
from kerasft.serving.monitor.gauges import COUNTERS, GAUGES, Gauges
from kerasft.serving.monitor.rules import Watch


def share(value, rows=100, key="negative", before=0.2):
    return Finding("class_share", key, value, before, rows)


def told(rule, *findings):
    seen = Watch([rule])
    return [[e["event"] for e in seen.judge([f])] for f in findings]


# --- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "limit", "value", "holds"),
    [
        ("above", 0.4, 0.41, True),
        ("above", 0.4, 0.4, False),
        ("below", 0.1, 0.09, True),
        ("below", 0.1, 0.1, False),
        ("rises_by", 0.15, 0.36, True),
        ("rises_by", 0.15, 0.34, False),
        ("rises_by", 0.15, 0.01, False),
        ("falls_by", 0.15, 0.04, True),
        ("falls_by", 0.15, 0.4, False),
    ],
)
def test_the_tests_of_rules(test, limit, value, holds):
    assert Rule("r", "class_share", test, limit).holds(share(value)) is holds


def test_an_episode_is_raised_once_and_cleared_once():
    rule = Rule("r", "class_share", "above", 0.4, lasting=2)
    values = [0.5, 0.3, 0.5, 0.5, 0.5, 0.3, 0.5, 0.3, 0.3, 0.3]
    found = told(rule, *map(share, values))
    assert found == [[], [], [], ["raised"], [], [], [], [], ["cleared"], []]


def test_too_few_rows_change_nothing():
    rule = Rule("r", "class_share", "above", 0.4, lasting=2, least=50)
    few = share(0.1, rows=49)
    assert told(rule, share(0.5), few, share(0.5), few, few) == [[], [], ["raised"], [], []]


def test_a_rule_without_a_key_has_an_episode_for_each():
    seen = Watch([Rule("r", "class_share", "above", 0.4)])
    assert [e["key"] for e in seen.judge([share(0.5), share(0.5, key="positive")])] == [
        "negative",
        "positive",
    ]
    assert [e["key"] for e in seen.judge([share(0.1), share(0.5, key="positive")])] == ["negative"]
    assert [key for _, key in seen.standing()] == ["positive"]


def test_the_worst_state_is_shown():
    seen = Watch(default_rules())
    for value, state in ((0.05, "ok"), (0.2, "warn"), (0.3, "alarm")):
        found = Finding("psi", "text_tokens", value, None, 300)
        seen.judge([found])
        assert seen.state_of(found) == state


def rules_of(tmp_path, text):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return read_rules(path, logs.reference())


def test_rules_are_read(tmp_path):
    *defaults, rule = rules_of(tmp_path, logs.RULES)
    assert tuple(defaults) == default_rules()
    assert rule == Rule("negative-jump", "class_share", "rises_by", 0.15, "negative", 50, 2)
    text = "- {name: psi-warn, off: true}\n- {name: psi-alarm, quantity: psi, above: 0.5}\n"
    assert rules_of(tmp_path, text) == (Rule("psi-alarm", "psi", "above", 0.5),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a", "a list"),
        ("- 7", "a `name`"),
        ("- {quantity: psi, above: 1}", "a `name`"),
        ("- {name: a, quantity: psi}", "one of above"),
        ("- {name: a, quantity: psi, above: 1, below: 2}", "one of above"),
        ("- {name: a, quantity: pis, above: 1}", "psi"),
        ("- {name: a, quantity: psi, above: high}", "is a number"),
        ("- {name: a, quantity: psi, above: .nan}", "is a number"),
        ("- {name: a, quantity: psi, rises_by: 1}", "Write `above`"),
        ("- {name: a, quantity: class_share, rises_by: -1}", "more than 0"),
        ("- {name: a, quantity: class_share, label: negativ, above: 1}", "Did you mean 'negative'"),
        ("- {name: a, quantity: class_share, feature: confidence, above: 1}", "goes with `label`"),
        ("- {name: a, quantity: psi, feature: tokens, above: 1}", "text_tokens"),
        ("- {name: a, quantity: psi, above: 1, leest: 5}", "Did you mean 'least'"),
        ("- {name: a, quantity: psi, above: 1, least: 50 windows}", "least"),
        ("- {name: a, quantity: psi, above: 1, for: 0}", "for"),
        ("- {name: a, quantity: psi, above: 1, severity: bad}", "severity"),
        ("- {name: a, quantity: psi, above: 1}\n- {name: a, quantity: ks, above: 1}", "two rules"),
        ("- {name: a, name: b}", "given twice"),
        ("- [", "not valid YAML"),
    ],
)
def test_wrong_rules_are_refused(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        rules_of(tmp_path, text)
    assert words in str(caught.value) and "rules.yaml" in str(caught.value)


def test_rules_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_rules(tmp_path / "none", logs.reference())


# --- where alarms go ----------------------------------------------------------------------------


def test_a_second_run_repeats_nothing(tmp_path):
    logs.reference().save(tmp_path / "reference.json")
    (tmp_path / "rules.yaml").write_text(logs.RULES)
    log = logs.write(tmp_path / "log", logs.rows(0, jump=500))
    more = {"rules": str(tmp_path / "rules.yaml"), "alarms": str(tmp_path / "alarms.jsonl")}
    options = Options(log, str(tmp_path / "reference.json"), "100", **more)
    watch(options)
    first = (tmp_path / "alarms.jsonl").read_text()
    watch(options)
    assert (tmp_path / "alarms.jsonl").read_text() == first
    (event,) = map(json.loads, first.splitlines())
    assert (event["rule"], event["model"], event["key"]) == ("negative-jump", "desk", "negative")
    assert (event["test"], event["limit"], event["for"]) == ("rises_by", 0.15, 2)


def test_a_file_of_alarms_with_odd_lines(tmp_path):
    path = tmp_path / "alarms"
    path.write_text("null\n[1]\nbroken\n")
    assert AlarmFile(str(path)).add({"event": "raised"}) is True
    assert AlarmFile(str(path)).add({"event": "raised"}) is False
    with pytest.raises(InputError, match="--alarms"):
        AlarmFile(str(tmp_path))


class Hook:
    """A webhook that answers as `script` says; afterwards 200."""

    def __init__(self, *script):
        self.script, self.bodies, self.gate = list(script), [], threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.bodies.append(json.loads(body))
                status = hook.script.pop(0) if hook.script else 200
                if status == "hang":
                    hook.gate.wait(LONGEST)
                    return
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST  # noqa: N815, what a redirect would become

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?secret=1"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_the_webhook_is_tried_again_and_keeps_the_order():
    with Hook(500, 503) as hook:
        sender = Webhook(hook.url, pause=0.01)
        sender.add({"n": 1})
        sender.add({"n": 2})
        sender.close()
    assert [body["n"] for body in hook.bodies] == [1, 1, 1, 2]


@pytest.mark.parametrize("status", [500, 404, 302])
def test_an_event_that_nobody_takes_is_given_up_and_counted(status, caplog):
    failed = []
    with Hook(*[status] * 3) as hook:
        sender = Webhook(hook.url, pause=0.01, failed=lambda: failed.append(1))
        sender.add({"n": 1})
        sender.add({"n": 2})
        sender.close()
    assert [body["n"] for body in hook.bodies] == [1, 1, 1, 2] and failed == [1]
    assert f"HTTP {status}" in caplog.text and "secret" not in caplog.text


def test_a_webhook_that_hangs_holds_nobody_up():
    failed = []
    with Hook("hang", "hang") as hook:
        sender = Webhook(hook.url, timeout=0.1, tries=1, waiting=1, failed=lambda: failed.append(1))
        began = time.monotonic()
        for n in range(10):
            sender.add({"n": n})
        assert time.monotonic() - began < 0.1
        sender.close(2)
    assert len(failed) >= 8  # one was sent, one waited


def test_a_webhook_that_is_not_there(caplog):
    sender = Webhook("http://127.0.0.1:1/x", pause=0.01)
    sender.add({"n": 1})
    sender.close()
    assert "did not reach" in caplog.text


@pytest.mark.parametrize("url", ["ftp://a/b", "file:///etc/passwd", "http://", "a.b/c", "http://["])
def test_other_addresses_are_refused(url):
    with pytest.raises(InputError, match="--webhook"):
        Webhook(url)


# --- Prometheus and Grafana ---------------------------------------------------------------------


def names_of(page):
    return {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}


def test_the_page_while_it_follows(tmp_path):
    """A log that grows, and is turned over: every row is read once, and the gauges move."""
    logs.reference().save(tmp_path / "reference.json")
    (tmp_path / "rules.yaml").write_text(logs.RULES)
    found = [json.dumps(row) + "\n" for row in logs.rows(0, jump=500)]
    log, stop, ports, views = tmp_path / "log", threading.Event(), [], []
    options = Options(
        str(log),
        str(tmp_path / "reference.json"),
        "100",
        rules=str(tmp_path / "rules.yaml"),
        follow=True,
        port=0,
        poll=0.01,
    )
    thread = threading.Thread(target=watch, args=(options, views.append, stop, ports.append))
    thread.start()
    try:
        until(lambda: ports)
        log.write_text("".join(found[:350]) + found[350][:20])  # half a line
        until(lambda: len(views) == 3)
        assert value(ports[0], 'kerasft_class_share{label="negative",model="desk"}') < 0.3
        with log.open("a") as file:
            file.write(found[350][20:] + "".join(found[351:600]))
        log.rename(tmp_path / "log.1")
        log.write_text("".join(found[600:]) + "broken\n")
        until(lambda: len(views) == 10)
        until(lambda: value(ports[0], "kerasft_broken_rows_total") == 1)
        assert value(ports[0], "kerasft_rows_total") == 1000
        assert value(ports[0], 'kerasft_window_rows{model="desk"}') == 100
        alarm = 'kerasft_alarm{key="negative",model="desk",rule="negative-jump",severity="alarm"}'
        assert value(ports[0], alarm) == 1
        assert (
            value(ports[0], 'kerasft_class_share_reference{label="negative",model="desk"}') == 0.2
        )
        end = 'kerasft_window_end_timestamp_seconds{model="desk"}'
        assert value(ports[0], end) == logs.BEGIN.timestamp() + 999
    finally:
        stop.set()
        thread.join(LONGEST)
    assert [v.window.rows for v in views] == [100] * 10
    with pytest.raises(OSError):
        page_of(ports[0])


def page_of(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def value(port, name):
    found = [line for line in page_of(port).splitlines() if line.startswith(f"{name} ")]
    return float(found[0].split()[-1]) if found else None


def test_a_port_in_use_is_told():
    end = Gauges().serve(0)
    try:
        with pytest.raises(InputError, match="--port"):
            Gauges().serve(end.port)
    finally:
        end()


def test_every_expression_is_of_a_metric_that_we_export(tmp_path):
    assert run(["monitor", "--write-dashboard", str(tmp_path / "grafana")]) == 0
    board = json.loads((tmp_path / "grafana" / DASHBOARD).read_text())
    alerts = yaml.safe_load((tmp_path / "grafana" / ALERTS).read_text())
    said = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    said += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    said += [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    pages = Gauges().page() + Metrics().page().decode()
    known = names_of(pages)
    labels = {name: set(of) for name, (_, of) in (GAUGES | COUNTERS).items()}
    used = set()
    for expr in said:
        for name, chosen in re.findall(r"(kerasft_\w+)(?:\{([^}]*)\})?", expr):
            assert name in known, expr
            used.add(name)
            keys = set(re.findall(r'(\w+)=~?"', chosen))
            assert keys <= labels.get(name.removesuffix("_total"), set()), expr
    # Every gauge of ours is on the dashboard or in an alert: what nobody sees is not exported.
    mine = set(GAUGES) | {f"{name}_total" for name in COUNTERS}
    assert mine <= used


def test_the_dashboard_and_the_alerts_have_their_form(tmp_path):
    run(["monitor", "--write-dashboard", str(tmp_path)])
    board = json.loads((tmp_path / DASHBOARD).read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) == 6
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(places) == 6 and board["title"] and board["schemaVersion"] >= 30
    for group in yaml.safe_load((tmp_path / ALERTS).read_text())["groups"]:
        for rule in group["rules"]:
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
            assert re.fullmatch(r"\d+[smh]", rule["for"])
            named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            metric = re.search(r"kerasft_\w+", rule["expr"])[0]
            assert named <= set(GAUGES.get(metric, ("", ()))[1])
