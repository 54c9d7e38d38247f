"""Spans that are recorded: OpenTelemetry's API comes without any that are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, TraceFlags, Tracer, TracerProvider


class RecordedSpan(Span):
    def __init__(self, name: str, *, is_sampled: bool = True) -> None:
        self.name = name
        self.attributes: dict[str, Any] = {}
        self.settings = 0
        self.has_ended = False
        self._is_sampled = is_sampled

    def end(self, end_time: int | None = None) -> None:
        self.has_ended = True

    def get_span_context(self) -> SpanContext:
        return SpanContext(1, id(self) % 2**64, is_remote=False, trace_flags=TraceFlags(int(self._is_sampled)))

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def set_attribute(self, key: str, value: Any) -> None:
        if key.startswith("aicache."):
            assert isinstance(value, str | bool | int | float), key
            self.settings += 1
            if self.is_recording():
                self.attributes[key] = value

    def add_event(self, *_: Any, **__: Any) -> None: ...

    def update_name(self, name: str) -> None: ...

    def is_recording(self) -> bool:
        return self._is_sampled and not self.has_ended

    def set_status(self, *_: Any, **__: Any) -> None: ...

    def record_exception(self, *_: Any, **__: Any) -> None: ...


class Spans(TracerProvider, Tracer):
    """``made``: the spans, in the order in which they began."""

    def __init__(self, *, are_sampled: bool = True) -> None:
        self.made: list[RecordedSpan] = []
        self._are_sampled = are_sampled

    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        return self

    def start_span(self, name: str, *_: Any, **__: Any) -> Span:
        span = RecordedSpan(name, is_sampled=self._are_sampled)
        self.made.append(span)
        return span

    @contextmanager
    def start_as_current_span(self, name: str, *_: Any, **__: Any) -> Iterator[Span]:  # type: ignore[override]
        span = self.start_span(name)
        with trace.use_span(span, end_on_exit=True):
            yield span

    @property
    def last(self) -> dict[str, Any]:
        """What the last one has to say of the cache, without the names' beginning."""
        return {key.removeprefix("aicache."): value for key, value in self.made[-1].attributes.items()}
