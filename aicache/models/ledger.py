"""What was counted. Written by ``ledger``."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from aicache.models.label import LONGEST_LABEL


class Counted(models.Model):
    """What one process counted in one minute or hour: whole figures, which only that process writes.

    So a row that is written twice, or late, is right all the same. Older ones are of no process: "".
    ``span``: seconds that it covers, 60, 3600 or 86400; 0 is all that came before. ``start``: unix seconds of its
    beginning. ``owner``: digest of the tenant, and besides one of ``ledger.place``. Money is in billionths of a dollar.
    """

    id = models.BigAutoField(primary_key=True)
    process = models.CharField(max_length=32, blank=True, editable=False)
    span = models.IntegerField()
    start = models.BigIntegerField()
    owner = models.CharField(max_length=32, blank=True, editable=False)
    tenant = models.CharField(_("tenant"), max_length=LONGEST_LABEL, blank=True)
    everybody = models.BooleanField(_("everybody's"), default=False)

    class Meta:
        abstract = True


class MetricBucket(Counted):
    """What calls came to, by tenant, model and policy. What each figure is made of stands in docs/counts.md.

    One that is not complete may be negative. ``total``: 1 is the sum of all models and policies of an owner in an hour
    or a day, 2 that of all owners; they hold no calls of their own.
    """

    total = models.SmallIntegerField(default=0)
    model = models.CharField(_("model"), max_length=LONGEST_LABEL, blank=True)
    policy = models.CharField(_("policy"), max_length=LONGEST_LABEL, blank=True)
    # Those that are added up over many rows come first: SQLite reads a row up to the last column that it needs.
    hit = models.BigIntegerField(default=0)
    stale = models.BigIntegerField(default=0)
    semantic = models.BigIntegerField(default=0)
    coalesced = models.BigIntegerField(default=0)
    miss = models.BigIntegerField(default=0)
    bypass = models.BigIntegerField(default=0)
    unscoped = models.BigIntegerField(default=0)
    degraded = models.BigIntegerField(default=0)
    error = models.BigIntegerField(default=0)
    upstream_calls = models.BigIntegerField(default=0)
    spent_nano_usd = models.BigIntegerField(default=0)
    saved_nano_usd = models.BigIntegerField(default=0)
    premium_nano_usd = models.BigIntegerField(default=0)
    stale_blocked = models.BigIntegerField(default=0)
    checked = models.BigIntegerField(default=0)
    wrong = models.BigIntegerField(default=0)
    redundant_writes = models.BigIntegerField(default=0)
    upstream_tokens = models.BigIntegerField(default=0)
    saved_tokens = models.BigIntegerField(default=0)
    unpriced = models.BigIntegerField(default=0)
    unpriced_spent = models.BigIntegerField(default=0)
    waits = models.BigIntegerField(default=0)
    waited_ms = models.BigIntegerField(default=0)
    expired = models.BigIntegerField(default=0)
    late_1m = models.BigIntegerField(default=0)
    late_10m = models.BigIntegerField(default=0)
    late_1h = models.BigIntegerField(default=0)
    late_6h = models.BigIntegerField(default=0)
    late_1d = models.BigIntegerField(default=0)
    reads = models.BigIntegerField(default=0)
    writes = models.BigIntegerField(default=0)
    read_tokens = models.BigIntegerField(default=0)
    written_tokens = models.BigIntegerField(default=0)
    redundant_tokens = models.BigIntegerField(default=0)
    gate_waits = models.BigIntegerField(default=0)
    gate_waited_ms = models.BigIntegerField(default=0)
    unpriced_prompts = models.BigIntegerField(default=0)
    missed_model_changed = models.BigIntegerField(default=0)
    missed_system_changed = models.BigIntegerField(default=0)
    missed_tools_changed = models.BigIntegerField(default=0)
    missed_messages_changed = models.BigIntegerField(default=0)
    missed_previous_message_not_found = models.BigIntegerField(default=0)
    missed_unavailable = models.BigIntegerField(default=0)
    missed_other = models.BigIntegerField(default=0)
    hit_us = models.BigIntegerField(default=0)
    hit_0 = models.BigIntegerField(default=0)
    hit_1 = models.BigIntegerField(default=0)
    hit_2 = models.BigIntegerField(default=0)
    hit_3 = models.BigIntegerField(default=0)
    hit_4 = models.BigIntegerField(default=0)
    hit_5 = models.BigIntegerField(default=0)
    hit_6 = models.BigIntegerField(default=0)
    hit_7 = models.BigIntegerField(default=0)
    hit_8 = models.BigIntegerField(default=0)
    hit_9 = models.BigIntegerField(default=0)
    hit_10 = models.BigIntegerField(default=0)
    upstream_ms = models.BigIntegerField(default=0)
    upstream_0 = models.BigIntegerField(default=0)
    upstream_1 = models.BigIntegerField(default=0)
    upstream_2 = models.BigIntegerField(default=0)
    upstream_3 = models.BigIntegerField(default=0)
    upstream_4 = models.BigIntegerField(default=0)
    upstream_5 = models.BigIntegerField(default=0)
    upstream_6 = models.BigIntegerField(default=0)
    upstream_7 = models.BigIntegerField(default=0)
    upstream_8 = models.BigIntegerField(default=0)
    upstream_9 = models.BigIntegerField(default=0)
    upstream_10 = models.BigIntegerField(default=0)
    expired_nano_usd = models.BigIntegerField(default=0)
    redundant_nano_usd = models.BigIntegerField(default=0)
    gate_nano_usd = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ("view",)
        permissions = (("view_dashboard", _("Can view the dashboard")),)
        verbose_name = _("bucket of figures")
        verbose_name_plural = _("dashboard")
        constraints = (
            models.UniqueConstraint(
                fields=["process", "span", "start", "total", "owner", "model", "policy"], name="aicache_bucket_cell"
            ),
        )
        indexes = (
            models.Index(fields=["span", "start"], name="aicache_bucket_time"),
            models.Index(fields=["total", "owner", "start"], name="aicache_bucket_owner"),
            models.Index(fields=["total", "start"], name="aicache_bucket_total"),
        )

    def __str__(self) -> str:
        return f"{self.tenant} {self.model} {self.policy} {self.start}"


class Hotspot(Counted):
    """What cost most: a question that was paid for, a tag whose death cost answers, or a prefix that was written twice.

    Only the dearest are kept, so that ``times`` and ``nano_usd`` are at least that, and about so much of the dearest.
    ``digest``: of the question, of ``core.tags.Tag`` or of the prefix. ``label``: for people; ``key``: of the answer
    that was last made.
    """

    kind = models.CharField(_("kind"), max_length=10)
    digest = models.CharField(max_length=32, editable=False)
    label = models.CharField(_("label"), max_length=LONGEST_LABEL, blank=True)
    key = models.CharField(_("key"), max_length=64, blank=True)
    times = models.BigIntegerField(default=0)
    nano_usd = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()
        verbose_name = _("hot spot")
        verbose_name_plural = _("hot spots")
        constraints = (
            models.UniqueConstraint(
                fields=["process", "span", "start", "owner", "kind", "digest"], name="aicache_hotspot_cell"
            ),
        )
        indexes = (models.Index(fields=["kind", "start"], name="aicache_hotspot_time"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.label}"


class CountingProcess(models.Model):
    """A process that counts. ``flushed``: how much it has counted and written; ``announced``: how far that may have
    come until it writes again. Of one that is gone, what lies between is lost.

    ``started``: tells processes apart that had the number ``pid`` on ``host`` one after another. ``seen_at`` is by the
    database's clock. ``unsettled``: from which minute on it may still change its rows. ``under_way``: calls of now, by
    the owner's digest.
    """

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    host = models.CharField(_("host"), max_length=LONGEST_LABEL)
    pid = models.BigIntegerField(_("process number"))
    started = models.CharField(max_length=32, blank=True, editable=False)
    seen_at = models.DateTimeField(_("last seen"))
    flushed = models.BigIntegerField(_("counted"), default=0)
    announced = models.BigIntegerField(_("announced"), default=0)
    unsettled = models.BigIntegerField(default=0)
    under_way = models.JSONField(default=dict)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("counting process")
        verbose_name_plural = _("counting processes")

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"
