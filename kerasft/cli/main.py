"""The commands of `kerasft`. Nothing heavy is imported before a command needs it."""

import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from kerasft._version import __version__
from kerasft.cli import deployment, monitoring, retraining
from kerasft.cli.failures import INPUT, INTERRUPTED, UNREAD, report, terminate
from kerasft.cli.output import as_json, refuse_run, results, start_quietly, whole_file

app = typer.Typer(
    name="kerasft",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
UsageError = typer.BadParameter.__base__

RecipeFile = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SECTION.KEY=VALUE",
        help="Values to put into the recipe.",
        show_default=False,
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, as `train` writes it.")]
Named = Annotated[str | None, typer.Argument(help="Of which to tell all.", show_default=False)]
Out = Annotated[str | None, typer.Option(help="File for the answers instead of stdout.")]
Rows = Annotated[str, typer.Argument(metavar="DATA", help="A data file, tfds:NAME, or hf:NAME.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"kerasft {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: kerasft quickstart")
def kerasft(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Print the traceback of an error."),
    ] = False,
) -> None:
    """Fine-tune BERT and GPT backbones on your own text; get a SavedModel that takes raw strings.

    Exit codes: 0 done, 1 a failure of ours, 2 your input is wrong or
    the disk is full, 3 an alarm of `monitor` stands, 4 what `retrain` made is worse,
    75 interrupted (`train --resume` goes on), 130 and 143 interrupted before the first checkpoint.
    """


@app.command(epilog="Example: kerasft quickstart --out my-first-run")
def quickstart(
    out: Annotated[str, typer.Option(help="New folder for the run and the export.")] = "quickstart",
) -> None:
    """Fine-tune the embedded BERT-Tiny on the embedded mails, and ask the SavedModel."""
    import kerasft as kf

    start_quietly()
    kf.quickstart(out)


@app.command(epilog="Example: kerasft tasks text-classification")
def tasks(name: Named = None) -> None:
    """List the tasks, one a line; or tell all of one: its options, its answers, its source."""
    import kerasft as kf

    start_quietly()
    _tell(kf.tasks.registry, name)


@app.command(epilog="Example: kerasft methods lora")
def methods(name: Named = None) -> None:
    """List the tuning methods, one a line; or tell all of one: formula, options, rate, paper."""
    import kerasft as kf

    start_quietly()
    _tell(kf.methods.registry, name)


@app.command(epilog="Example: kerasft presets")
def presets() -> None:
    """List the presets that are known by name, one a line."""
    import kerasft as kf

    start_quietly()
    _list(kf.backbones.presets())


@app.command(epilog="Example: kerasft doctor recipe.yaml data.max_length=128")
def doctor(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Look at recipe and data before training: labels, duplicates, lengths, steps, memory."""
    import kerasft as kf

    plan = kf.Recipe.load(recipe, *(overrides or ()))  # a mistake shows before TensorFlow loads
    start_quietly()
    typer.echo(kf.doctor(plan).text)


@app.command(
    epilog="Example: kerasft train recipe.yaml training.epochs=5 --out runs/spam\n\n"
    "After an interruption: kerasft train recipe.yaml training.epochs=5 --out runs/spam --resume"
)
def train(
    recipe: RecipeFile,
    out: Annotated[str, typer.Option(help="Folder of the run.", show_default=False)],
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the run folder.")
    ] = False,
) -> None:
    """Train what a recipe says; write model, metrics and report into a run folder."""
    import kerasft as kf

    plan = kf.Recipe.load(recipe, *(overrides or ()))
    start_quietly()
    kf.train(plan, out=out, resume=resume).report.print()
    typer.echo(f"The run is in {out}. Next: kerasft export {out} saved_models/NAME")


@app.command(epilog="Example: kerasft evaluate runs/spam test.csv --json")
def evaluate(
    run: Run,
    data: Rows,
    json: Annotated[
        bool, typer.Option("--json", help="Print the object of metrics.json, and nothing else.")
    ] = False,
    out: Annotated[
        str | None, typer.Option(help="Folder for the report: text, JSON and plots.")
    ] = None,
) -> None:
    """Score a trained model on labelled rows."""
    import kerasft as kf

    start_quietly()
    if out is not None:
        refuse_run(out)
    with results():
        scores = kf.load(run).evaluate(data)
        if out is not None:
            scores.save(out)
    if json:
        typer.echo(as_json(scores.to_json(), indent=2))
    else:
        scores.print()


@app.command(epilog="Example: kerasft predict runs/spam new.csv --out answers.jsonl")
def predict(
    run: Run,
    data: Rows,
    out: Out = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Labels to choose from, with commas: for zero-shot-classification."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="An adapter file, or a run with an adapter, on RUN's base.", show_default=False
        ),
    ] = None,
) -> None:
    """Answer every row of DATA: one JSON line a row, keys as in the SavedModel's outputs."""
    import kerasft as kf

    start_quietly()
    with results() as stdout:
        given = {} if labels is None else {"given": {"labels": _listed(labels)}}
        _write(kf.load(run, adapter=adapter).predict_rows(data, **given), out, stdout)


@app.command(
    "zero-shot",
    epilog="Example: kerasft zero-shot my-nli-checkpoint new.csv --labels sport,trade,weather",
)
def zero_shot(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset; nothing is trained.")],
    data: Rows,
    labels: Annotated[str, typer.Option(help="Labels to choose from, with commas.")],
    through: Annotated[
        str, typer.Option(help="entailment, similarity or likelihood.")
    ] = "entailment",
    hypothesis: Annotated[
        str, typer.Option(help="What a label becomes; {label} stands in it.")
    ] = "This text is about {label}.",
    out: Out = None,
) -> None:
    """Label every row of DATA without training: one JSON line a row."""
    import kerasft as kf

    start_quietly()
    with results() as stdout:
        pipe = kf.zero_shot(preset, through, hypothesis=hypothesis)
        _write(pipe.predict_rows(data, given={"labels": _listed(labels)}), out, stdout)


@app.command(epilog="Example: kerasft chat runs/shop --temperature 0.7")
def chat(
    run: Run,
    system: Annotated[str, typer.Option(help="What the model is told before the chat.")] = "",
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0: the likeliest answer; that of the run if none.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer; that of the run if none.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is drawn.")] = 0,
) -> None:
    """Talk to a language model: a line in, an answer out as it is written. /new begins anew."""
    import kerasft as kf

    start_quietly()
    asked = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    asked = {name: value for name, value in asked.items() if value is not None}
    talk = kf.load(run).chat(system, seed=seed, **asked)
    shown = sys.stdin.isatty()
    while True:
        print("> " if shown else "", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            break
        if line.strip() == "/new":
            talk.clear()
        elif line.strip():
            for part in talk.say(line.rstrip("\n")):
                print(part, end="", flush=True)
            print(flush=True)


@app.command(
    epilog='Example: kerasft rank runs/search "reset my password" --candidates answers.csv --top 5'
)
def rank(
    run: Run,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What is looked for: one text.")],
    candidates: Annotated[
        str,
        typer.Option(help="A data file with a text a row.", show_default=False),
    ],
    column: Annotated[str, typer.Option(help="The column of the texts.")] = "text",
    top: Annotated[int | None, typer.Option(min=1, help="How many to give; all if none.")] = None,
) -> None:
    """Order the texts of a file by how well they answer QUERY: one JSON line a text, best first."""
    import kerasft as kf

    start_quietly()
    with results() as stdout:
        source = kf.data.open_source(candidates, {"text": "text"}, {"text": column})
        texts = [text for chunk in source.chunks() for text in chunk["text"]]
        for row in kf.load(run).rank(query, texts, top=top):
            print(as_json(row), file=stdout)


@app.command(epilog="Example: kerasft export runs/spam saved_models/spam")
def export(
    run: Run,
    folder: Annotated[
        str, typer.Argument(metavar="SAVED_MODELS/NAME", help="Folder of the export.")
    ],
    version: Annotated[
        int | None,
        typer.Option(min=1, help="Version; the next free one if not given."),
    ] = None,
    adapters: Annotated[
        str | None,
        typer.Option(
            help="Adapter files, or runs with adapters, on RUN's base, with commas: each row of a "
            "request names its own as `adapter`, the file's name without .safetensors, or NAME of "
            "NAME=FILE.",
            show_default=False,
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Store large matrices in 8 bits: a quarter of the size, as quick."
        ),
    ] = False,
) -> None:
    """Write a SavedModel for TF Serving, load it again, and compare its answers."""
    import kerasft as kf

    start_quietly()
    with results() as stdout:
        pipe = kf.load(run)
        made = pipe if adapters is None else _attached(pipe, _listed(adapters))
        print(made.export(folder, version=version, run=run, int8=int8), file=stdout)


app.command(epilog=deployment.VERSIONS)(deployment.versions)
app.command(epilog=deployment.SERVE)(deployment.serve)
app.command(epilog=monitoring.MONITOR)(monitoring.monitor)
app.command(epilog=monitoring.REFERENCE)(monitoring.reference)
app.command(epilog=retraining.RETRAIN)(retraining.retrain)


def _attached(pipe: Any, places: list[str]) -> Any:
    """A run's base with adapters, each by the name that is given, or that of its file or folder."""
    import kerasft as kf

    if not places:
        raise kf.InputError("--adapters names files or runs. Received: nothing between commas.")
    many = kf.AdapterSet(pipe)
    for given in places:
        name, _, place = given.rpartition("=")
        own = place.rstrip("/").rsplit("/", 1)[-1].removesuffix(".safetensors")
        many.attach(name or own, place)
    return many


def _listed(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _write(rows: Iterable[dict], out: str | None, stdout: Any) -> None:
    """Rows as JSON lines, to a file that appears whole, or to stdout."""
    if out is None:
        for row in rows:
            print(as_json(row), file=stdout)
        return
    with whole_file(out) as file:
        for row in rows:
            file.write(as_json(row) + "\n")


def _tell(registry: Any, name: str | None) -> None:
    """All members of a registry, or all of one."""
    if name is None:
        _list(registry.describe())
    else:
        typer.echo(registry.explain(name))


def _list(described: Mapping[str, str]) -> None:
    width = max(map(len, described), default=0)
    for name, text in described.items():
        typer.echo(f"{name:<{width}}  {text}".rstrip())


def run(args: Sequence[str]) -> int:
    """Run one command line; return its exit code and print errors in one line on stderr.

    Args:
        args: the words after `kerasft`; none shows the help.

    Example:
        run(["train", "recipe.yaml", "--out", "runs/spam"])
    """
    debug = "--debug" in args
    words = [word for word in args if word != "--debug"] or ["--help"]
    try:
        code = app(words, prog_name="kerasft", standalone_mode=False)
        sys.stdout.flush()
    except UsageError as error:
        path = error.ctx.command_path if error.ctx else "kerasft"
        message = " ".join(error.format_message().split())
        print(f"error: {message} See: {path} --help", file=sys.stderr)
        return INPUT
    except SystemExit:  # typer's answer to a pipe whose reader has gone
        return UNREAD
    except BaseException as error:
        return report(error, debug)
    return report(KeyboardInterrupt()) if code == INTERRUPTED else code or 0


def main() -> None:
    """The console script."""
    # TensorFlow reads this at import; without it stderr fills with notes of its C++ side.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    signal.signal(signal.SIGTERM, terminate)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:  # what could not be written is still in the buffer and would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
