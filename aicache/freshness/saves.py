"""Saves: a row and its invalidation are one transaction, in autocommit too.

``_save_table`` is the one place that every save passes, a fixture's too, and that lies between ``pre_save`` and
``post_save``: what a receiver of the one reads stays outside of the transaction, and what a receiver of the other does
comes after it, as without us.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

from django.db import connections, router
from django.db.models import Model, QuerySet

from aicache.freshness import family, outbox, transactions
from aicache.freshness.columns import compared
from aicache.freshness.family import Registered
from aicache.freshness.rows import Dying, bare, dying, is_to_insert, plain, touched

SEEN: Final = "_aicache_seen"  # on an instance's _state, from its save to its post_save

_saving: ContextVar[tuple[Any, Any] | None] = ContextVar("aicache_saving", default=None)


def install(model: type[Model]) -> None:
    """On a class and what inherits from it."""
    original: Any = model._save_table  # type: ignore[attr-defined]  # Django's own
    if getattr(original, "aicache", False):
        return

    @wraps(original)
    def _save_table(self: Any, raw: bool = False, cls: Any = None, *args: Any, **kwargs: Any) -> Any:
        kin, outer = family.kin(cls), _saving.get()
        if not kin or (outer is not None and outer[0] is self and outer[1] is cls):
            return original(self, raw, cls, *args, **kwargs)
        _saving.set((self, cls))
        try:
            return _save(self, raw, cls, kin, original, args, kwargs)
        except BaseException:
            vars(self._state).pop(SEEN, None)
            raise
        finally:
            _saving.set(outer)

    _save_table.aicache = True  # type: ignore[attr-defined]  # a mark
    model._save_table = _save_table  # type: ignore[attr-defined]  # Django's own


def _save(self: Any, raw: bool, cls: Any, kin: family.Kin, original: Any, args: Any, kwargs: Any) -> Any:
    given = dict(zip(("force_insert", "force_update", "using", "update_fields"), args, strict=False)) | kwargs
    using: str = given.get("using") or router.db_for_write(cls, instance=self)
    cause = f"save {family.label_of(type(self))}"
    own = kin.own
    is_new = _is_new(self, raw, cls, given)
    if own is None and is_new:  # nothing inherits from a row that was not there
        return original(self, raw, cls, *args, **kwargs)
    with transactions.ensured(using) as opened:
        simple = own is not None and not own.options.needs_row
        first = simple and self._is_pk_set(cls._meta)
        reads = [] if is_new else [_Reading(one, self, cls, using) for one in _read_for(kin, self, raw)]
        if first and own is not None:
            outbox.write(bare(own, self._get_pk_val(cls._meta)), using=using, cause=cause)
        elif opened or any(reading.before_too for reading in reads):
            transactions.lock(cls, using)
        for reading in reads:
            reading.before()
        updated = original(self, raw, cls, *args, **kwargs)
        found: Dying = {}
        for reading in reads:
            found |= reading.after()
        if own is not None and not first and (is_new or not own.options.skip_unchanged):
            found |= dying(own, self)
        outbox.write(found, using=using, cause=cause)
    if own is not None and cls is self._meta.concrete_model:
        setattr(self._state, SEEN, True)
    return updated


def _is_new(self: Any, raw: bool, cls: Any, given: dict[str, Any]) -> bool:
    """Whether Django inserts without looking whether the row is there."""
    meta = cls._meta
    if given.get("force_insert") or not self._is_pk_set(meta):
        return True
    return not raw and not given.get("force_update") and is_to_insert(self, cls)


def _read_for(kin: family.Kin, self: Any, raw: bool) -> list[Registered]:
    """Whose rows must be read. A heir that is being saved itself is told of when its own table comes."""
    found = []
    for one in kin.below:  # whose rows are locked first, as they are where they are deleted
        is_saved_too = isinstance(self, one.model) and not raw
        if not is_saved_too or one.options.needs_row:
            found.append(one)
    if kin.own is not None and kin.own.options.needs_row:
        found.append(kin.own)
    return found


class _Reading:
    """The rows of one registered model that a change of a row of ``cls`` changes, before and after."""

    def __init__(self, registered: Registered, instance: Any, cls: Any, using: str) -> None:
        self.registered = registered
        self.using = using
        self.is_own = registered.model is cls
        self.before_too = registered.options.needs_row
        self.where = {cls._meta.pk.name: instance._get_pk_val(cls._meta)}
        self.were: list[Model] = []

    def before(self) -> None:
        if self.before_too:
            self.were = list(self._locked())

    def after(self) -> Dying:
        options, found = self.registered.options, Dying()
        if self.is_own and not options.skip_unchanged:
            are: list[Model] = []  # what it is now is in memory
        elif not self.before_too:
            for key in self._all().values_list("pk", flat=True):
                found |= bare(self.registered, key)
            return found
        else:
            are = list(self._all())
        if options.skip_unchanged and [_values(row) for row in self.were] == [_values(row) for row in are]:
            return found
        for row in [*self.were, *are]:
            found |= dying(self.registered, row)
        return found

    def _all(self) -> QuerySet[Model]:
        return plain(self.registered.model, self.using).filter(**self.where)

    def _locked(self) -> QuerySet[Model]:
        # No stronger than the lock of the UPDATE that follows: rows that refer to this one may still be added.
        features = connections[self.using].features
        rows = self._all().select_for_update(no_key=features.has_select_for_no_key_update)
        columns = self.registered.options.columns
        return rows if columns is None else rows.only(*columns)


def _values(row: Model) -> list[Any]:
    return [vars(row).get(name) for name, _ in compared(type(row), True)]


def on_post_save(sender: Any, instance: Any, using: str, **_: Any) -> None:
    """A net: for those who send the signal by hand, such as after a bulk operation."""
    if vars(instance._state).pop(SEEN, False) or instance.pk is None:
        return
    with transactions.ensured(using) as opened:
        if opened:
            transactions.lock(instance._meta.concrete_model, using)
        outbox.write(touched(instance, using), using=using, cause=f"post_save {family.label_of(sender)}")
