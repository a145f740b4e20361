"""How far what comes in has moved from what was learned: PSI, Kolmogorov-Smirnov, MMD, shares."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from kerasft._core.checks import in_range, whole
from kerasft._core.errors import InputError
from kerasft.metrics.values import numbers

_TERMS = 100  # of Kolmogorov's series; it has converged long before
_ROWS = 1000  # of each sample that MMD compares: the time grows by their square


def quantile_edges(values: Any, bins: int = 10) -> list[float]:
    """Inner edges of bins that hold about the same number of values each.

    Edge i is the (i / bins)-quantile, the least value with that share at or below it; equal edges
    become one, so values of few kinds have fewer bins, and no bin is empty. Bin b holds
    edge[b-1] < x <= edge[b]; the outer bins are open.

    Args:
        values: Numbers, shape [n].
        bins: How many bins at most.

    Returns:
        At most `bins - 1` edges, rising.

    Raises:
        InputError: If there is no value, or one is not finite.

    Example:
        >>> quantile_edges([1, 2, 3, 4], bins=2)
        [2.0]
    """
    whole("bins", bins, 2)
    array = numbers("values", values)
    edges = np.unique(np.quantile(array, np.arange(1, bins) / bins, method="inverted_cdf"))
    # The greatest value as an edge would leave the last bin empty.
    return edges[edges < array.max()].tolist()


def binned(values: Any, edges: Sequence[float]) -> list[int]:
    """How many values fall into each bin of `quantile_edges`.

    Args:
        values: Numbers, shape [n]; none is fine.
        edges: Inner edges, rising, shape [k].

    Returns:
        k + 1 counts.

    Example:
        >>> binned([1, 2.5, 9], [2.5])
        [2, 1]
    """
    array = np.asarray(values, np.float64)
    places = np.searchsorted(np.asarray(edges, np.float64), array, side="left")
    return np.bincount(places, minlength=len(edges) + 1).tolist()


def psi(reference: Any, current: Any, smoothing: float = 0.5) -> float:
    """Population stability index of two tables of counts over the same bins.

    PSI = sum over bins of (q - p) * ln(q / p), p and q the shares of reference and current,
    (count + smoothing) / (total + smoothing * bins), so that an empty bin stays finite.

    Of two equal distributions it is about (bins - 1) * (1 / n + 1 / m), not 0: with 10 bins and
    100 rows 0.09. The custom is 0.1 for a change worth a look and 0.25 for a large one.

    Args:
        reference: Counts, shape [bins].
        current: Counts, shape [bins].
        smoothing: What is added to each count.

    Returns:
        A number from 0, without unit (nats).

    Raises:
        InputError: If the shapes differ, there is no bin, or a count is negative.

    Example:
        >>> round(psi([50, 50], [80, 20], smoothing=0), 4)
        0.4159

    Reference:
        Siddiqi, Credit Risk Scorecards, 2006; it is the symmetric divergence of Jeffreys, 1946.
    """
    in_range("smoothing", smoothing, 0)
    one, other = numbers("reference", reference), numbers("current", current)
    if one.shape != other.shape or min(one.min(), other.min()) < 0:
        raise InputError(
            "`reference` and `current` must be counts over the same bins. "
            f"Received: {one.tolist()!r:.60} and {other.tolist()!r:.60}."
        )
    shares = [(c + smoothing) / (c.sum() + smoothing * len(c)) for c in (one, other)]
    if min(s.min() for s in shares) <= 0:
        raise InputError("A bin is empty, and PSI is infinite then. Give smoothing above 0.")
    p, q = shares
    return float(((q - p) * np.log(q / p)).sum())


def ks(reference: Any, current: Any) -> dict[str, float]:
    """Two-sample Kolmogorov-Smirnov test, two-sided.

    D = max over x of |F(x) - G(x)|, F and G the shares of values at most x. The p-value is
    Kolmogorov's limit, Q(sqrt(n m / (n + m)) * D), Q(t) = 2 * sum over k >= 1 of
    (-1)^(k-1) * exp(-2 k^2 t^2); with ties, as among lengths, it is too large (careful).

    Args:
        reference: Numbers, shape [n].
        current: Numbers, shape [m].

    Returns:
        `statistic`, D from 0 to 1, and `p_value`.

    Raises:
        InputError: If a sample is empty or holds a number that is not finite.

    Example:
        >>> ks([1, 2], [3, 4])["statistic"]
        1.0

    Reference:
        Smirnov, Annals of Mathematical Statistics 19, 1948; as scipy.stats.ks_2samp with
        method="asymp", which takes the exact one-sample law at n m / (n + m) for the limit.
    """
    one, other = np.sort(numbers("reference", reference)), np.sort(numbers("current", current))
    places = np.concatenate([one, other])
    f, g = (np.searchsorted(sample, places, side="right") / len(sample) for sample in (one, other))
    statistic = float(np.abs(f - g).max())
    size = len(one) * len(other) / (len(one) + len(other))
    return {"statistic": statistic, "p_value": kolmogorov(math.sqrt(size) * statistic)}


def kolmogorov(t: float) -> float:
    """Q(t): the chance that Kolmogorov's limit is above t.

    Example:
        >>> round(kolmogorov(1.3581), 3)
        0.05
    """
    if t < 0.2:  # the series alternates for ever at 0; Q(0.2) is 1 to twelve places
        return 1.0
    k = np.arange(1, _TERMS + 1)
    total = 2 * ((-1.0) ** (k - 1) * np.exp(-2 * k**2 * t**2)).sum()
    return float(min(max(total, 0.0), 1.0))


def mmd2(
    reference: Any,
    current: Any,
    bandwidth: float | None = None,
    most: int = _ROWS,
    seed: int = 0,
) -> float:
    """Squared maximum mean discrepancy of two samples of vectors, the unbiased estimate.

    MMD^2 = mean of k(x, x') over x != x' + mean of k(y, y') over y != y' - 2 mean of k(x, y),
    k(a, b) = exp(-|a - b|^2 / (2 s^2)), s the median distance of all pairs of both samples
    (the median heuristic). It is about 0 where nothing moved, and may be below.

    Args:
        reference: Vectors, shape [n, width], n at least 2.
        current: Vectors, shape [m, width], m at least 2.
        bandwidth: s; the median heuristic when None.
        most: Rows that are drawn of a larger sample.
        seed: Of that draw.

    Returns:
        MMD^2, without unit, at most 2.

    Raises:
        InputError: If the shapes do not fit, or a number is not finite.

    Example:
        >>> mmd2([[0.0], [1.0]], [[5.0], [6.0]], bandwidth=1.0) > 1
        True

    Reference:
        Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, equation 3 and section 8.
    """
    draw = np.random.default_rng(seed)
    x, y = (_vectors(n, v, most, draw) for n, v in (("reference", reference), ("current", current)))
    if x.shape[1] != y.shape[1]:
        raise InputError(
            "`reference` and `current` must be vectors of one width. "
            f"Received: {x.shape[1]} and {y.shape[1]}."
        )
    both = np.concatenate([x, y])
    norms = (both**2).sum(1)
    squares = np.maximum(norms[:, None] + norms[None, :] - 2 * both @ both.T, 0)
    if bandwidth is None:
        bandwidth = float(np.median(np.sqrt(squares[np.triu_indices(len(both), 1)]))) or 1.0
    in_range("bandwidth", bandwidth, 0, above=True)
    kernel = np.exp(-squares / (2 * bandwidth**2))
    n, m = len(x), len(y)
    within = [
        (part.sum() - np.trace(part)) / (size * (size - 1))
        for part, size in ((kernel[:n, :n], n), (kernel[n:, n:], m))
    ]
    return float(sum(within) - 2 * kernel[:n, n:].mean())


def wilson(count: int, rows: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = count / rows, n = rows.

    Args:
        count: Rows with the property.
        rows: All rows, at least 1.
        confidence: That the interval holds the true share, between 0 and 1.

    Returns:
        Its lower and upper end, from 0 to 1.

    Raises:
        InputError: If count is not from 0 to rows.

    Example:
        >>> [round(x, 3) for x in wilson(20, 100)]
        [0.133, 0.289]

    Reference:
        Wilson, Journal of the American Statistical Association 22, 1927.
    """
    whole("rows", rows, 1)
    if not 0 <= count <= rows:
        raise InputError(f"`count` is from 0 to the rows, {rows}. Received: count={count!r}.")
    in_range("confidence", confidence, 0, 1 - 1e-12, above=True)
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), count / rows
    middle, half = p + z**2 / (2 * rows), z * math.sqrt(p * (1 - p) / rows + z**2 / (4 * rows**2))
    low, high = ((middle + sign * half) / (1 + z**2 / rows) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def share_difference(
    count: int,
    rows: int,
    reference_count: int,
    reference_rows: int,
    confidence: float = 0.95,
) -> dict[str, float]:
    """How far a share is from that of the reference, with an interval and a test.

    The difference is q - p; its interval is Newcombe's, of the Wilson ends l and u of both shares:
    d - sqrt((q - l_q)^2 + (u_p - p)^2) to d + sqrt((u_q - q)^2 + (p - l_p)^2). The p-value is that
    of the two-proportion z-test, z = d / sqrt(r (1 - r) (1/n + 1/m)), r the share of both together.

    Args:
        count: Rows with the property now.
        rows: All rows now, at least 1.
        reference_count: Rows with the property in the reference.
        reference_rows: All rows of the reference, at least 1.
        confidence: Of the interval, between 0 and 1.

    Returns:
        `difference`, from -1 to 1; `low` and `high`; `z` and its two-sided `p_value`.

    Raises:
        InputError: As `wilson`.

    Example:
        >>> share_difference(45, 100, 200, 1000)["difference"]
        0.25

    Reference:
        Newcombe, Statistics in Medicine 17, 1998, method 10.
    """
    q, p = count / max(rows, 1), reference_count / max(reference_rows, 1)
    q_low, q_high = wilson(count, rows, confidence)
    p_low, p_high = wilson(reference_count, reference_rows, confidence)
    both = (count + reference_count) / (rows + reference_rows)
    error = math.sqrt(both * (1 - both) * (1 / rows + 1 / reference_rows))
    z = (q - p) / error if error else 0.0
    return {
        "difference": q - p,
        "low": q - p - math.hypot(q - q_low, p_high - p),
        "high": q - p + math.hypot(q_high - q, p - p_low),
        "z": z,
        "p_value": math.erfc(abs(z) / math.sqrt(2)),
    }


class Draw:
    """A uniform draw of a stream, in bounded memory (Vitter's algorithm R).

    Args:
        most: values that are kept, in `values`.
        seed: of the draw.

    Example:
        >>> draw = Draw(2)
        >>> for value in range(100):
        ...     draw.add(value)
        >>> len(draw.values)
        2

    Reference: Vitter, ACM Transactions on Mathematical Software 11, 1985.
    """

    def __init__(self, most: int, seed: int = 0):
        self.values: list[Any] = []
        self._most, self._seen, self._random = most, 0, np.random.default_rng(seed)

    def add(self, value: Any) -> None:
        """Take the next value of the stream."""
        self._seen += 1
        if len(self.values) < self._most:
            self.values.append(value)
        elif (place := int(self._random.integers(self._seen))) < self._most:
            self.values[place] = value


def _vectors(name: str, values: Any, most: int, draw: np.random.Generator) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 2 or len(array) < 2 or not array.shape[1] or array.dtype.kind not in "iuf":
        raise InputError(
            f"`{name}` must be vectors, shape [rows, width], at least 2 rows. "
            f"Received: {array.dtype} of shape {list(array.shape)}."
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"`{name}` must hold finite numbers. Received: NaN or infinity.")
    if len(array) > whole("most", most, 2):
        array = array[draw.choice(len(array), most, replace=False)]
    return array
