"""The counts of the whole site as Prometheus reads them: the only module that imports ``prometheus_client``.

Of all processes, whichever of them is asked. Counters never go down: what may be taken back (an attempt that failed and
is tried again, a request that never left) is a gauge, or is not here. No label is a tenant's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from aicache.ledger.figures import STATUSES
from aicache.ledger.histogram import Histogram
from aicache.ledger.stats import NOTHING, Figures, by_model, lost, pulse
from aicache.ledger.words import REST

MOST: Final = 50
"""Models that are told apart: those with the most calls."""
NONE: Final = "none"

Value = Callable[[Figures], float]

COUNTERS: Final[Sequence[tuple[str, str, Value]]] = (
    ("upstream_tokens", "Tokens of Claude's answers, in and out", lambda found: found["upstream_tokens"]),
    ("saved_tokens", "Tokens of answers that were served without a call", lambda found: found["saved_tokens"]),
    ("spent_usd", "Dollars for Claude's answers", lambda found: float(found.usd("spent"))),
    ("saved_usd", "Dollars that answers from the cache had cost", lambda found: float(found.usd("saved"))),
    ("premium_usd", "Dollars of those for writing the prompt cache", lambda found: float(found.usd("premium"))),
    ("unpriced", "Answers of unknown price that were served", lambda found: found["unpriced"]),
    ("unpriced_spent", "Claude's answers of unknown price", lambda found: found["unpriced_spent"]),
    ("stale_blocked", "Answers that an invalidation kept from being served", lambda found: found["stale_blocked"]),
    ("expired", "Answers that were asked for again after they had expired", lambda found: found["expired"]),
    ("checked", "Answers that somebody has checked", lambda found: found["checked"]),
    ("wrong", "Answers that were found to be wrong", lambda found: found["wrong"]),
    ("waits", "Calls that waited for another's", lambda found: found["waits"]),
    ("waited_seconds", "Seconds that they did", lambda found: found["waited_ms"] / 1000),
    ("prompt_reads", "Calls that read the prompt cache", lambda found: found["reads"]),
    ("prompt_writes", "Calls that wrote to it", lambda found: found["writes"]),
    ("prompt_redundant_writes", "Calls that wrote what stood there", lambda found: found["redundant_writes"]),
    ("prompt_read_tokens", "Tokens read from the prompt cache", lambda found: found["read_tokens"]),
    ("prompt_written_tokens", "Tokens written to it", lambda found: found["written_tokens"]),
    ("prompt_redundant_usd", "Dollars for writing what stood there", lambda found: float(found.usd("redundant"))),
)
TIMES: Final = (
    ("hit_seconds", "Time that answers from the cache took", Histogram.of_hits),
    ("upstream_seconds", "Time until Claude had answered, or had begun a stream", Histogram.of_upstream),
)


def exposition(using: str, accept: str) -> tuple[bytes, str]:
    """→ what is sent, and its content type. Raises what the database does."""
    registry = CollectorRegistry()
    registry.register(_Counts(using))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        encode, content_type = choose_encoder("")
    return encode(registry), content_type


class _Counts(Collector):
    def __init__(self, using: str) -> None:
        self._using = using

    def describe(self) -> list[Metric]:
        """Nothing: else everything is read to find out."""
        return []

    def collect(self) -> Iterator[Metric]:
        models = _named(by_model(self._using))
        whole = sum(models.values(), NOTHING)
        yield _counter("calls", "Calls, by how they ended", ["status"], _statuses(whole))
        for name, told, value in COUNTERS:
            yield _counter(name, told, ["model"], {(model,): value(found) for model, found in models.items()})
        for name, told, times in TIMES:
            yield _histogram(name, told, times(whole.numbers))
        counted_and_in_flight = pulse(self._using)
        yield _gauge("failed", "Calls that failed and are not being tried again", whole["error"])
        yield _gauge("upstream_calls", "Requests that were sent to Claude", whole["upstream_calls"])
        yield _gauge("gate_saved_usd", "Dollars that waiting for the prompt cache has saved", float(whole.usd("gate")))
        yield _gauge("in_flight", "Calls under way", counted_and_in_flight[1])
        yield _gauge("lost", "Counts of killed processes that are missing at most", lost(self._using))


def _named(found: dict[str, Figures]) -> dict[str, Figures]:
    dearest = sorted(found, key=lambda model: (-found[model].calls, model))
    named: dict[str, Figures] = {}
    for at, model in enumerate(dearest):
        name = (model or NONE) if at < MOST else REST
        named[name] = named.get(name, NOTHING) + found[model]
    return named


def _statuses(found: Figures) -> dict[tuple[str, ...], float]:
    return {(status,): found[status] for status in STATUSES if status != "error"}


def _counter(name: str, told: str, labels: Sequence[str], values: dict[tuple[str, ...], float]) -> Metric:
    metric = CounterMetricFamily(f"aicache_{name}", told, labels=labels)
    for label, value in values.items():
        metric.add_metric(label, value)
    return metric


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"aicache_{name}", told, value=value)


def _histogram(name: str, told: str, times: Histogram) -> Metric:
    bounds = [*(str(bound) for bound in times.bounds), "+Inf"]
    buckets: Any = list(zip(bounds, map(float, accumulate(times.counts)), strict=True))
    return HistogramMetricFamily(f"aicache_{name}", told, buckets=buckets, sum_value=times.total)
