"""The pipeline: text in, answers out; save, load, evaluate, export."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kerasft._core import files, stack, weights
from kerasft._core.errors import InputError
from kerasft.backbones import (
    build_backbone,
    save_tokenizer,
    sites,
    template_of,
    tokenizer_digest,
)
from kerasft.backbones.crossing import input_names
from kerasft.backbones.saved import (
    FORMAT,
    RECORD,
    WEIGHTS,
    Saved,
    damage_told,
    model_folder,
    read_saved,
)
from kerasft.data import (
    check_labels,
    encoder,
    helpers,
    input_specs,
    kinds_of,
    open_source,
    tensors_of,
)
from kerasft.evaluation import Collector, Report
from kerasft.methods import (
    Adapted,
    adapt,
    carried,
    load_adapter,
    merge,
    save_adapter,
    unmergeable,
)
from kerasft.pipeline._answers import given_of, in_batches, rows_of, sound, told
from kerasft.pipeline.chat import Chat
from kerasft.pipeline.forward import Forward, by_length, spare
from kerasft.preprocessing import by_row
from kerasft.tasks import registry as tasks

_CHUNK = 1024


class Pipeline:
    """A trained model with its tokenizer and task.

    Args:
        model: the functional `keras.Model` of `task.build`.
        tokenizer: the backbone's KerasHub tokenizer.
        task: the task, with its labels.
        info: facts that go with the model (columns, separator, preset), as JSON types.

    `report` is the report of the training that made it, or None where it was loaded.

    Example:
        >>> pipe = kerasft.load("runs/spam")
        >>> pipe.predict(["free prize!!!"])[0]["label"]
        'spam'
    """

    def __init__(self, model: Any, tokenizer: Any, task: Any, info: dict | None = None):
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.info = dict(info or {})
        self.batch_size = 32
        self.report: Report | None = None
        self._forward = self._answer = None
        self.by_place = False  # whether a row is told by its place in the batch
        self.kept: dict[Any, Any] = {}  # what is made once: compiled functions of its task

    # --- parts ----------------------------------------------------------------------------------

    @property
    def adapted(self) -> Adapted:
        """The layer that holds the backbone and its method."""
        return next(layer for layer in self.model.layers if isinstance(layer, Adapted))

    @property
    def backbone(self) -> Any:
        """The KerasHub backbone."""
        return self.adapted.backbone

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return input_names(self.model)

    @property
    def fixed_length(self) -> int | None:
        """The width of every batch where padding moves answers (FNet), else None."""
        return None if sites(self.backbone).family.maskable else self.task.max_length

    def encode(self, fields: dict[str, list]) -> dict[str, np.ndarray]:
        """Texts to padded ids, by the same compiled graph that is exported."""
        return encoder(self.task, self.tokenizer)(fields)

    # --- answers --------------------------------------------------------------------------------

    def logits(self, fields: dict[str, list]) -> np.ndarray:
        """The model's raw outputs for lists of values, float32 [sequences, ...], in order.

        Outputs of a token each come as [sequences, longest, ...], 0 on padding.
        """
        return self.outputs(self.encode(fields))

    def outputs(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """The model's raw outputs for encoded sequences, as `encode` gives them."""
        if self._forward is None:
            pad = template_of(self.tokenizer).pad
            self._forward = Forward(self.model, self.fixed_length, pad)
        return self._forward(features, self.batch_size)

    @property
    def windowed(self) -> bool:
        """Whether the model reads the windows of a text together, [batch, windows, length]."""
        return len(self.model.inputs[0].shape) == 3

    def model_inputs(self, features: dict[str, Any]) -> dict[str, Any]:
        """Encoded tensors as the model takes them, in the graph."""
        import tensorflow as tf

        fill = {"token_ids": template_of(self.tokenizer).pad}
        given = {name: features[name] for name in self.inputs}
        # The padding mask is made by `encode` and always whole, so a family without a mask (FNet)
        # is padded to its fixed length here, as in training.
        if self.fixed_length is not None:
            missing = [[0, 0], [0, self.fixed_length - tf.shape(features["token_ids"])[1]]]
            given = {
                n: tf.pad(v, missing, constant_values=fill.get(n, 0)) for n, v in given.items()
            }
        if self.windowed:
            row = features["row"]
            given = {n: by_row(v, row, fill.get(n, 0)) for n, v in given.items()}
        return given

    def run(self, features: dict[str, Any]) -> Any:
        """The model's outputs for a batch of encoded tensors, in the graph."""
        return self.model(self.model_inputs(features), training=False)

    def answers(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What a batch of string tensors is answered, in the graph."""
        # A task that runs its model many times (a text is generated) says itself how it answers.
        if hasattr(self.task, "answer"):
            return self.task.answer(self, fields)
        features = self.task.encode(self.tokenizer, fields)
        return self.task.decode(by_length(self, features), features)

    @property
    def spare(self) -> int:
        """Tokens of padding that cost what one more pass of the model does (see `by_length`)."""
        return spare(self)

    def reduced(self, features: dict[str, np.ndarray], reduce: Any, batch: int = 8) -> np.ndarray:
        """A few numbers a sequence, float32 [sequences, k]: `reduce(outputs, targets)` of features
        that hold `targets` too, `batch` sequences at once."""
        if reduce not in self.kept:
            pad = template_of(self.tokenizer).pad
            self.kept[reduce] = Forward(self.model, self.fixed_length, pad, reduce)
        return self.kept[reduce](features, batch)

    def predict(self, texts: Iterable[Any], given: dict | None = None) -> list[dict[str, Any]]:
        """Answer texts.

        Args:
            texts: strings; where the task reads more than one field (pairs of texts, a question
                and its context), tuples in the order of `task.inputs` or mappings.
            given: inputs that are the same for every text, e.g. `{"labels": ["sport", "trade"]}`.

        Returns:
            One mapping a text, with the names of the exported model's outputs.

        Raises:
            InputError: if `texts` is one string, or an item is not of the task's form.

        Example:
            >>> pipe.predict(["free prize!!!"])
            [{'label': 'spam', 'probabilities': [0.01, 0.99], 'logits': [-2.1, 2.3]}]
        """
        rows = rows_of(self.task, texts, given or {})
        answers: list[dict[str, Any]] = []
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            answers += self._answers({n: [r[n] for r in part] for n in self.task.inputs})
        return answers

    def predict_rows(
        self, data: Any, columns: dict[str, str] | None = None, given: dict | None = None
    ) -> Iterator[dict]:
        """Answer the rows of a file or other source, one mapping a row, in order; see `predict`."""
        kinds, given = kinds_of(self.task), given_of(self.task, given or {})
        fields = {name: kinds[name] for name in self.task.inputs if name not in given}
        for chunk in open_source(data, fields, self._columns(columns)).chunks(_CHUNK):
            size = len(next(iter(chunk.values())))
            yield from self._answers(chunk | {n: [value] * size for n, value in given.items()})

    def rank(self, query: Any, candidates: list[str], top: int | None = None) -> list[dict]:
        """Order texts by how well they answer a query; of a text-similarity model.

        Args:
            query: a text, or a list of texts (see the task's `rank`).
            candidates: texts.
            top: how many to give; all when None.

        Returns:
            `text`, `score` and `index` of each candidate, the best first.

        Raises:
            InputError: if the task ranks no texts, or there is no candidate.
        """
        if not hasattr(self.task, "rank"):
            raise InputError(
                f"Only a text-similarity model ranks texts. Received: task {self.task.name!r}."
            )
        return self.task.rank(self, query, candidates, top)

    def _answers(self, fields: dict[str, list]) -> list[dict[str, Any]]:
        if hasattr(self.task, "answer"):
            return self._asked(fields)
        return told(self.task, self.arrays(fields))

    def arrays(self, fields: dict[str, list]) -> dict[str, Any]:
        """What one batch of rows is answered, as the SavedModel gives it."""
        if hasattr(self.task, "answer"):
            return self.asked(tensors_of(fields, input_specs(self.task)))
        features = self.encode(fields)
        return self.task.decode(self.outputs(features), features)

    def _asked(self, fields: dict[str, list]) -> list[dict[str, Any]]:
        """Answers of a task that runs its model many times, rows of like length together."""
        specs = input_specs(self.task)

        def answer(chosen: list[int]) -> list[dict[str, Any]]:
            return told(self.task, self.arrays({n: [fields[n][i] for i in chosen] for n in specs}))

        return in_batches([fields[name] for name in specs], self.batch_size, answer)

    def asked(self, fields: dict[str, Any]) -> dict[str, Any]:
        """`task.answer` on a batch of tensors, compiled once."""
        import tensorflow as tf

        if self._answer is None:
            self._answer = tf.function(
                lambda given: self.task.answer(self, given),
                input_signature=[input_specs(self.task)],
                autograph=False,
            )
        return self._answer(fields)

    def stream(self, prompt: Any, **options: Any) -> Iterator[str]:
        """The answer of a language model as it comes, piece by piece.

        Args:
            prompt: a string, or a chat: a list of {"role", "content"} that ends with the user.
            options: `max_new_tokens`, `temperature`, `top_k`, `top_p`, `repetition_penalty`,
                `seed`; the task's own where not given.

        Raises:
            InputError: for a task that writes no text, or a chat that its template does not take.

        Example:
            >>> for part in pipe.stream("Write the plural of: cat"):
            ...     print(part, end="", flush=True)
        """
        if not hasattr(self.task, "stream"):
            raise InputError(
                "A language model (causal-lm, text-to-text) writes texts. "
                f"Received: task {self.task.name!r}."
            )
        spoken = [prompt] if isinstance(prompt, str) else prompt
        for text in (turn.get("content") if isinstance(turn, dict) else turn for turn in spoken):
            if isinstance(text, str) and not sound(text, str):
                raise InputError(f"A prompt is text that UTF-8 can write. Received: {text!r:.80}.")
        return self.task.stream(self, prompt, **options)

    def chat(self, system: str = "", **options: Any) -> Chat:
        """Begin a chat with a language model; see `Chat` and `stream`."""
        return Chat(self, system, **options)

    # --- scores ---------------------------------------------------------------------------------

    def evaluate(
        self,
        data: Any,
        columns: dict[str, str] | None = None,
        split: str | None = None,
        **facts: Any,
    ) -> Report:
        """Score the model on labelled rows.

        Args:
            data: a path or any other source of rows, with the task's fields.
            columns: field -> column where they differ; those of the training data by default.
            split: a name for the rows, for the report; that of the data when None.
            facts: what else the report tells: `before`, `history`, `fit_seconds`, `extra`.

        Returns:
            `kerasft.evaluation.Report`: `.after`, `.to_json()`, `.print()`, `.save(dir)`.

        Raises:
            InputError: if the data cannot be read, or holds a label that the model does not know.
        """
        source = self.source(data, columns)
        return self.collected(source).report(split=split or source.name, **facts)

    def collected(self, source: Any) -> Collector:
        """The right answers and the model's, of the rows of an open source."""
        # A row that training leaves out, because its answer is not in its context, is scored.
        return Collector.of(self.task, self.judged(source.every_row().chunks(_CHUNK)))

    def judged(self, chunks: Iterable[dict[str, list]]) -> Iterator[tuple]:
        """(what is shown of wrong rows, what is right, scores) of each chunk of rows."""
        task = self.task
        if hasattr(task, "judged"):
            yield from task.judged(self, chunks)
            return
        for fields in chunks:
            features = self.encode(fields)
            scores = task.scores(self.outputs(features), features)
            yield {name: fields[name] for name in task.inputs}, task.truth(fields), scores

    def source(self, data: Any, columns: dict[str, str] | None = None) -> Any:
        """Open labelled rows for this task, and check that every label is known."""
        separator = self.info.get("separator")
        source = open_source(data, self.task.fields(), self._columns(columns), separator)
        if self.task.labelled:
            check_labels(source, self.task.labels)
        return source

    def _columns(self, columns: dict[str, str] | None) -> dict[str, str]:
        known = self.info.get("columns", {}) if columns is None else columns
        fields = self.task.fields()
        return {k: v for k, v in known.items() if k in fields or k in helpers(fields)}

    # --- save and load --------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike) -> str:
        """Write the pipeline into a new folder: JSON, safetensors and vocabulary files only.

        Raises:
            InputError: if the folder exists.
        """
        record = {
            "format": FORMAT,
            "versions": stack.versions(),
            "task": tasks.config(self.task),
            "method": self.adapted.method_config,
            "backbone": self.adapted.description,
            # Whether the method holds weights without which the backbone's are not what it learned.
            "adapter": bool(carried(self.backbone)),
            "trainable": sorted(v.path for v in self.model.trainable_variables),
            "info": self.info,
        }
        with files.new_folder(folder) as local:
            save_tokenizer(self.tokenizer, str(local / "tokenizer"))
            state = weights.to_bytes(weights.state_of(self.model))
            files.write_bytes(local / WEIGHTS, state)
            files.write_json(local / RECORD, record)
        return os.fspath(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike, dtype: str | None = None) -> "Pipeline":
        """Read what `save` wrote, or the run folder it lies in; runs no code of the folder.

        Raises:
            InputError: if the folder holds no model, or one that does not fit this version.
        """
        with damage_told(os.fspath(folder)):
            place = model_folder(folder)
        with damage_told(place):
            return cls._rebuilt(read_saved(place), dtype)

    @classmethod
    def _rebuilt(cls, saved: Saved, dtype: str | None) -> "Pipeline":
        record, place = saved.record, saved.place
        task = tasks.build(record["task"])
        backbone = saved.backbone(**({"dtype": dtype} if dtype else {}))
        model = task.build(adapt(backbone, record["method"]))
        weights.assign(model, saved.arrays, saved.source)
        trainable = sorted(v.path for v in model.trainable_variables)
        if trainable != record["trainable"]:
            raise InputError(
                f"{place}: {len(trainable)} weights would be trained, where the saved model "
                f"trained {len(record['trainable'])}. It was written by another version."
            )
        info = dict(record["info"])
        info |= {"columns": dict(info.get("columns", {})), "separator": info.get("separator", "|")}
        if not (isinstance(info["separator"], str) and info["separator"]):
            raise InputError(f"{place}: `separator` is a text. Received: {info['separator']!r:.40}")
        return cls(model, saved.tokenizer, task, info)

    # --- hand over ------------------------------------------------------------------------------

    def merged(self) -> "Pipeline":
        """A copy in which the adapter is merged into the weights: a plain backbone and head.

        Raises:
            InputError: if there is nothing to merge, or it cannot be merged.
        """
        reason = unmergeable(self.backbone)
        if reason:
            name = self.adapted.method_config["name"]
            raise InputError(f"The method {name!r} has no merge: {reason}.")
        copy = self.copied()
        merge(copy.backbone)
        plain = self.task.build(adapt(build_backbone(self.adapted.description), "full"))
        weights.assign(plain, weights.state_of(copy.model), "the merged model")
        return Pipeline(plain, self.tokenizer, self.task, self.info)

    def copied(self) -> "Pipeline":
        """A pipeline with weights of its own, equal to these."""
        plain = build_backbone(self.adapted.description)
        model = self.task.build(adapt(plain, self.adapted.method_config))
        weights.assign(model, weights.state_of(self.model), "the copy")
        return Pipeline(model, self.tokenizer, self.task, self.info)

    def save_adapter(self, path: str | os.PathLike) -> str:
        """Write what the method moved or added, and the head, with fingerprints of base and
        tokenizer.

        Raises:
            InputError: if every weight of the backbone moves, or none.
        """
        head = {v.path: np.asarray(v) for v in self.head_variables}
        return save_adapter(os.fspath(path), self.adapted, head, self._facts())

    def load_adapter(self, path: str | os.PathLike, told: str | None = None) -> None:
        """Set the adapter's weights and head; `InputError`, which calls the file `told`, if base,
        method, tokenizer or labels differ."""
        head = {v.path: v for v in self.head_variables}
        load_adapter(os.fspath(path), self.adapted, head, self._facts(), told)

    def _facts(self) -> dict[str, Any]:
        """What an adapter is for, beside the base: without it its head answers another question."""
        return {"tokenizer": tokenizer_digest(self.tokenizer), "task": tasks.config(self.task)}

    @property
    def head_variables(self) -> list[Any]:
        """The weights above the backbone."""
        inside = {id(v) for v in self.adapted.variables}
        return [v for v in self.model.weights if id(v) not in inside]

    def save_hf(self, folder: str | os.PathLike) -> str:
        """Write a Hugging Face checkpoint folder that Transformers loads, with the same answers.

        An adapter is merged first.

        Raises:
            InputError: for a task, a family or a pooling that Transformers has no class for.
        """
        from kerasft.backbones.huggingface import write_folder

        if self.task.head_problem is None:
            raise InputError(
                f"Transformers has no class for the head of {self.task.name}, so no Hugging Face "
                f"folder is written. Received: task {self.task.name!r}. `save` and `export` write "
                "this one."
            )
        plain = self.merged() if carried(self.backbone) else self
        with files.new_folder(folder) as local:
            write_folder(
                str(local),
                plain.backbone,
                plain.tokenizer,
                plain.task.to_head(plain.model),
                plain.task.max_length,
            )
        return os.fspath(folder)

    def export(
        self, folder: Any, version: int | None = None, run: Any = None, int8: bool = False
    ) -> str:
        """Write a SavedModel `folder/version/` that takes raw strings, and compare its answers.

        Args:
            folder: `saved_models/NAME`.
            version: a number of its own; one more than the highest there is by default.
            run: the run folder that it comes from, for data and scores in the model card.
            int8: store large matrices in 8 bits: about a quarter of the size, as quick as before.

        Returns:
            The path of the version.

        Raises:
            InputError: if the version exists, NAME cannot stand in the path of a request, or no
                matrix is large enough for `int8`.
        """
        from kerasft.export import export_saved_model

        return export_saved_model(self, folder, version, run=run, int8=int8)
