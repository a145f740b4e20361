"""What is counted, for Prometheus, under TF Serving's names."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_PREFIX = ":tensorflow:serving:"


def _steps(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """TF Serving's buckets: the last one ends nowhere."""
    return tuple(scale * growth**i for i in range(count - 1))


_LATENCY = _steps(10, 1.8, 33)  # microseconds, to about 20 minutes
_COUNTS = _steps(1, 2, 15)
_QUEUE = _steps(100, 1.2, 52)  # microseconds, to about 1 second


class Metrics:
    """The counters of one server.

    Example:
        metrics = Metrics()
        metrics.request("spam", "OK")
        metrics.page()
    """

    def __init__(self):
        disable_created_metrics()
        self._registry = CollectorRegistry()
        requests = ("model_name", "status")
        self._requests = self._counter("request_count", "The total number of requests.", requests)
        self._examples = self._counter(
            "request_example_count_total", "The total number of tensorflow.Examples.", ("model",)
        )
        self._runs = self._counter(
            "batching_session:wrapped_run_count",
            "Total count of run calls on the wrapped session",
        )
        self._request_latency = self._histogram(
            "request_latency",
            "Wall time (in microseconds) of a request.",
            ("model_name", "API", "entrypoint"),
            _LATENCY,
        )
        self._runtime_latency = self._histogram(
            "runtime_latency",
            "Wall time (in microseconds) in the TensorFlow runtime.",
            ("model_name", "API", "runtime"),
            _LATENCY,
        )
        self._example_counts = self._histogram(
            "request_example_counts", "tensorflow.Examples per request.", ("model",), _COUNTS
        )
        self._warm_up = self._histogram(
            "model_warmup_latency",
            "Wall time (in microseconds) for warming up a model.",
            ("model_path", "status"),
            _LATENCY,
        )
        self._queuing = self._histogram(
            "batching_session:queuing_latency",
            "Wall time (in microseconds) in the queue.",
            ("thread_pool_name",),
            _QUEUE,
        )
        self._sizes = self._histogram(
            "batching_session:processed_batch_size", "Rows of the batches run.", (), _COUNTS
        )
        self._paddings = self._histogram(
            "batching_session:padding_size", "Rows that filled a batch up.", (), (0, *_COUNTS)
        )

        self._logged = self._log_rows("kerasft_log_rows", "Rows written to the request log.")
        self._dropped = self._log_rows(
            "kerasft_log_rows_dropped", "Rows that the request log had no room or no disk for."
        )

    def _log_rows(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self._registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, labels: tuple, buckets: tuple) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, buckets=buckets, registry=self._registry)

    def request(self, model: str, code: str) -> None:
        """Count a request by its end."""
        self._requests.labels(model, code).inc()

    def answered(self, model: str, api: str, entrypoint: str, seconds: float) -> None:
        """Note how long a request took that was answered."""
        self._request_latency.labels(model, api, entrypoint).observe(seconds * 1e6)

    def ran(self, model: str, api: str, seconds: float) -> None:
        """Note how long the model ran for a request."""
        self._runtime_latency.labels(model, api, "TF1").observe(seconds * 1e6)

    def examples(self, model: str, count: int) -> None:
        """Count the examples of a Classify or Regress request."""
        self._examples.labels(model).inc(count)
        self._example_counts.labels(model).observe(count)

    def warmed(self, folder: str, code: str, seconds: float) -> None:
        """Note how long the warm-up requests of a version took."""
        self._warm_up.labels(folder, code).observe(seconds * 1e6)

    def queued(self, seconds: float) -> None:
        """Note how long a request waited for its batch to run."""
        self._queuing.labels("batch_threads").observe(seconds * 1e6)

    def batch(self, rows: int, padding: int) -> None:
        """Count a batch that was run."""
        self._runs.inc()
        self._sizes.observe(rows)
        self._paddings.observe(padding)

    def logged(self, rows: int) -> None:
        """Count rows written to the request log."""
        self._logged.inc(rows)

    def dropped(self, rows: int) -> None:
        """Count rows that the request log had to drop."""
        self._dropped.inc(rows)

    def total(self, name: str) -> int:
        """The value of a counter by TF Serving's path, such as /tensorflow/serving/request_count;
        0 where there is none."""
        plain = name.replace("/", ":").removesuffix("_total")
        samples: Mapping = {
            metric.name: metric.samples
            for metric in self._registry.collect()
            if metric.type == "counter"
        }
        return int(sum(sample.value for sample in samples.get(plain, ())))

    def page(self) -> bytes:
        """The page that Prometheus reads.

        prometheus-client ends counters in _total; TF Serving has that in one name alone.
        """
        page = generate_latest(self._registry)
        for name in ("request_count", "batching_session:wrapped_run_count"):
            plain = (_PREFIX + name).encode("ascii")
            page = page.replace(plain + b"_total", plain)
        return page
