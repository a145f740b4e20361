"""Commands for a served model: a monitor, and the reference that it compares with."""

import sys
from typing import Annotated

import typer

from kerasft._core.errors import InputError
from kerasft.cli.failures import ALARM
from kerasft.cli.output import as_json, results, start_quietly

MONITOR = (
    "Example: kerasft monitor requests.jsonl --reference "
    "saved_models/desk/3/assets.extra/reference.json --rules rules.yaml --follow --port 9109"
)
REFERENCE = (
    "Example: kerasft reference runs/desk train.csv --held-out test.csv --out reference.json"
)


def monitor(
    log: Annotated[
        str | None,
        typer.Argument(
            metavar="LOG",
            help="The file of `kerasft serve --log`, or TF Serving's records: NAME.tfrecord.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="reference.json of the export's assets.extra.", show_default=False),
    ] = None,
    window: Annotated[str, typer.Option(help="Rows, or a time: 1000, 30m, 1h, 1d.")] = "1000",
    rules: Annotated[
        str | None, typer.Option(help="Rules in YAML, beside the default ones for PSI.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model, where the log holds several.")
    ] = None,
    embeddings: Annotated[
        str | None, typer.Option(help="Reference embeddings, .npy of [rows, width], for MMD.")
    ] = None,
    alarms: Annotated[
        str | None, typer.Option(help="File for what is raised and cleared, a JSON line each.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Address that what is raised and cleared is posted to.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Read on as the log grows.")] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="With --follow: gauges at http://127.0.0.1:PORT/metrics."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of the table.")] = False,
    write_dashboard: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Write a Grafana dashboard and Prometheus alerts, and read no log.",
        ),
    ] = None,
) -> None:
    """Compare what a model is asked, and answers, with its training data; raise alarms by rule.

    Prints the newest window, with --follow each one. Exit code 3: an alarm stands.
    """
    from kerasft.serving import monitor as monitoring

    if write_dashboard is not None:
        if log is not None:
            raise InputError("--write-dashboard reads no log. Leave LOG out.")
        for path in monitoring.write_dashboard(write_dashboard):
            typer.echo(path)
        return
    if log is None or reference is None:
        raise InputError(
            "monitor takes LOG and --reference reference.json, or --write-dashboard FOLDER alone."
        )
    from kerasft.serving.monitor.text import table, to_json

    options = monitoring.Options(
        log, reference, window, rules, model, embeddings, alarms, webhook, follow, port
    )

    def show(view: monitoring.View) -> None:
        print(as_json(to_json(view)) if json else f"{table(view)}\n", flush=True)

    def ready(page: int | None) -> None:
        if page is not None:
            print(f"Prometheus reads http://127.0.0.1:{page}/metrics", file=sys.stderr, flush=True)

    if follow:
        monitoring.watch(options, show, ready=ready)
        return
    view = monitoring.watch(options)
    typer.echo(as_json(to_json(view), indent=2) if json else table(view))
    if view.alarming:
        raise typer.Exit(ALARM)


def reference(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="The rows that it learned from.")],
    out: Annotated[str, typer.Option(help="File for the reference.")] = "reference.json",
    held_out: Annotated[
        str | None,
        typer.Option(help="Labelled rows it did not learn from, for its answers.", metavar="DATA"),
    ] = None,
) -> None:
    """Profile a model's data for `kerasft monitor`; `train` and `export` do so by themselves."""
    import kerasft as kf

    start_quietly()
    from kerasft.export.profile import reference_of

    with results():
        pipe = kf.load(run)
        scored = None if held_out is None else pipe.source(held_out)
        reference_of(pipe, pipe.source(data), scored, "held-out rows").save(out)
    typer.echo(out)
