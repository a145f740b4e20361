"""Commands for what was exported: its versions, and a server for the desk."""

import os
import sys
from typing import Annotated

import typer

from kerasft._core.errors import InputError
from kerasft.cli.failures import OURS
from kerasft.cli.output import label_and_version, version_table

VERSIONS = "Example: kerasft versions saved_models/spam --label stable=3"
SERVE = (
    "Example: kerasft serve saved_models/spam\n\n"
    'Then: curl -d \'{"instances": ["free prize"]}\' localhost:8501/v1/models/spam:predict\n\n'
    "Or open http://127.0.0.1:8501/ in a browser."
)


def versions(
    folder: Annotated[
        str, typer.Argument(metavar="SAVED_MODELS/NAME", help="Folder of the export.")
    ],
    label: Annotated[
        str | None,
        typer.Option(metavar="LABEL=VERSION", help="Put a label on a version, or move it there."),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Put `stable` back on the version before.")
    ] = False,
    remove_label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Take a label away.")
    ] = None,
    load: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Let a server load a version too.")
    ] = None,
    retire: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Let a server unload a version.")
    ] = None,
) -> None:
    """List the versions of an export; say which ones a server loads, and under which labels.

    A change is one write of SAVED_MODELS/NAME/deploy/models.config, which a running server reads
    again. TF Serving refuses a label on a version that it has not loaded.
    """
    from kerasft.export.deploy import versions as deployed

    asked = {
        "--label": label,
        "--rollback": rollback or None,
        "--remove-label": remove_label,
        "--load": load,
        "--retire": retire,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if len(asked) > 1:
        raise InputError(f"One change at a time. Received: {', '.join(asked)}.")
    if label is not None:
        deployed.label(folder, *label_and_version(label))
    elif rollback:
        deployed.rollback(folder)
    elif remove_label is not None:
        deployed.remove_label(folder, remove_label)
    elif load is not None:
        deployed.load(folder, load)
    elif retire is not None:
        deployed.retire(folder, retire)
    typer.echo(version_table(deployed.versions(folder)))
    if asked:
        typer.echo(f"\n{deployed.HINT}")


def serve(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="SAVED_MODELS/NAME",
            help="Folder of an export: what `kerasft versions` chose, or the newest version.",
            show_default=False,
        ),
    ] = None,
    rest_port: Annotated[int, typer.Option(help="Port of REST; 0 for any free one.")] = 8501,
    port: Annotated[int, typer.Option(help="Port of gRPC; 0 for any free one.")] = 8500,
    host: Annotated[
        str, typer.Option(help="Address to listen at; whoever reaches it may ask.")
    ] = "127.0.0.1",
    model_name: Annotated[
        str | None, typer.Option(help="Name in requests; NAME if none.", show_default=False)
    ] = None,
    model_config_file: Annotated[
        str | None,
        typer.Option(help="TF Serving's models.config, in place of a folder.", show_default=False),
    ] = None,
    batching_parameters_file: Annotated[
        str | None,
        typer.Option(help="TF Serving's batching.config; no batching if none.", show_default=False),
    ] = None,
    monitoring_config_file: Annotated[
        str | None, typer.Option(help="TF Serving's monitoring.config.", show_default=False)
    ] = None,
    max_body_bytes: Annotated[int, typer.Option(help="The longest request.")] = 64 * 2**20,
    max_requests: Annotated[int, typer.Option(help="Requests under way at a time.")] = 1000,
    max_connections: Annotated[
        int, typer.Option(help="Connections of REST at a time, and of gRPC.")
    ] = 400,
    max_rows: Annotated[int, typer.Option(help="Rows of a request.")] = 10_000,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name that REST is asked by (header Host), beside localhost; may be repeated; "
            "* for any. Any, too, if none is given and --host is reached by others.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for a REST request.")] = 30,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds to finish what runs, once told to stop.")
    ] = 30,
    poll: Annotated[
        float, typer.Option(min=0, help="Seconds between looks for new versions; 0: none.")
    ] = 1,
    warm_up: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds for a version's warm-up requests, before it is available; 0: none."
        ),
    ] = 300,
    page: Annotated[bool, typer.Option(help="A web page to ask by hand, at REST's port.")] = True,
    log: Annotated[
        str | None,
        typer.Option(
            help="File for requests and answers, a JSON line a row, for `kerasft monitor`; none "
            "if not given.",
            show_default=False,
        ),
    ] = None,
    log_texts: Annotated[
        bool, typer.Option("--log-texts", help="Log the texts too, which may be private.")
    ] = False,
    log_max_bytes: Annotated[
        int, typer.Option(min=1, help="Size at which the log becomes FILE.1.")
    ] = 100 * 2**20,
) -> None:
    """Serve an export as TF Serving does, for development; in production run TF Serving itself."""
    import logging

    from kerasft import serving

    if (folder is None) == (model_config_file is None):
        given = "neither" if folder is None else "both"
        raise InputError(
            "serve takes SAVED_MODELS/NAME or --model-config-file, one of the two. "
            f"Received: {given}."
        )
    models = serving.read_models(model_config_file) if folder is None else None
    if log_texts and log is None:
        raise InputError("--log-texts says what --log FILE holds. Received: no --log.")
    options = {} if log is None else {"log": serving.Tap(log, log_texts, log_max_bytes)}
    if batching_parameters_file is not None:
        options["batching"] = serving.read_batching(batching_parameters_file)
    if monitoring_config_file is not None:
        options["metrics_path"] = serving.read_monitoring(monitoring_config_file)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    finished = serving.serve(
        serving.Options(
            models or serving.single(folder, model_name),
            host=host,
            port=port,
            rest_port=rest_port,
            max_body_bytes=max_body_bytes,
            most_requests=max_requests,
            most_connections=max_connections,
            most_rows=max_rows,
            hosts=tuple(allowed_host or ()),
            timeout=timeout,
            grace=grace,
            poll=poll,
            warm_up=warm_up,
            page=page,
            **options,
        )
    )
    if not finished:
        sys.stderr.flush()
        os._exit(OURS)  # a model still runs in a thread, which Python would wait for
