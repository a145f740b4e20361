"""The command that trains a run on with new rows."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from kerasft._core.errors import InputError
from kerasft.cli.failures import WORSE
from kerasft.cli.output import aligned, start_quietly

RETRAIN = (
    "Example: kerasft retrain runs/desk --add labelled.jsonl --export saved_models/desk "
    "--out runs/desk-2"
)


def retrain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    add: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="Labelled rows with the columns of the old ones.",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder of the new run.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SECTION.KEY=VALUE",
            help="Values to put into the recipe; data.train=FILE: where the old rows lie now.",
            show_default=False,
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Further labelled rows to compare on; none of them is trained on.",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="SAVED_MODELS/NAME",
            help="Export the next version, if the new model is not worse.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Label of the exported version, such as canary.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="By how much a score may fall, in its own unit.")
    ] = 0.0,
    share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the added rows that is held out.")
    ] = 0.2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the new run.")
    ] = False,
) -> None:
    """Train a run on with new rows; compare old and new model, and export if it is not worse.

    Exit code 4: the new model is worse on some of the held-out rows, and was not exported.
    """
    import kerasft as kf

    for override in overrides or ():
        if "=" not in override:
            raise InputError(
                f"After RUN come values for the recipe, section.key=value. Received: {override!r}."
            )
    start_quietly()
    found = kf.retrain(
        run,
        add,
        out,
        held_out=held_out,
        overrides=tuple(overrides or ()),
        export=export,
        label=label,
        tolerance=tolerance,
        share=share,
        resume=resume,
    )
    typer.echo("\n".join(_lines(found, out, export)))
    if not found.passed:
        raise typer.Exit(WORSE)


def _lines(found: Any, out: str, export: str | None) -> Iterator[str]:
    rows = found.rows
    yield f"Trained on from {found.run}: its backbone, head and what {found.method} added."
    yield (
        f"Of {rows['added']} added rows {rows['train']} were learned, {rows['validation']} are for "
        f"validation, {rows['held_out']} are held out; {rows['leaks']} stand among held-out rows "
        "and were left out."
    )
    if rows["replaced"]:
        yield f"{rows['replaced']} old training rows made room for added rows of the same text."
    if rows["seen"]:
        yield f"{rows['seen']} rows of --held-out were trained on before, and are not compared."
    table = [("", "metric", "old", "new", "gain", "95% interval", "rows")]
    for name, one in found.compared.items():
        ends = [_number(end, "+") for end in one.interval or ()]
        numbers = (_number(one.old), _number(one.new), _number(one.gain, "+"))
        table.append((name, one.metric, *numbers, " to ".join(ends) or "-", f"{one.rows:,}"))
    yield f"\n{aligned(table)}\n"
    yield f"Rule: on each of these rows the gain, above 0 if better, is at least {_least(found)}."
    yield _verdict(found, out, export)


def _verdict(found: Any, out: str, export: str | None) -> str:
    nothing = "Nothing was exported. " if export else ""
    if not found.passed:
        where = ", ".join(found.worse) or "no rows: no score is defined"
        return f"Worse on {where}. {nothing}The run is in {out}."
    if found.exported is None:
        return f"Not worse. The run is in {out}. Next: kerasft export {out} saved_models/NAME"
    said = f"Not worse: exported {found.exported}"
    if found.label:
        return f"{said} with the label {found.label}. The run is in {out}."
    if found.waits:
        number = found.exported.rpartition("/")[2]
        return (
            f"{said}, and a server loads it. When it says AVAILABLE, move the label: kerasft "
            f"versions {export} --label {found.waits}={number}"
        )
    return f"{said}. The run is in {out}."


def _least(found: Any) -> str:
    return f"{-found.tolerance:g}" if found.tolerance else "0"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.4f}"
