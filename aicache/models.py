"""What the database remembers: which tags died, copies of answers, idempotency keys, and what was counted.

Who writes them: ``freshness`` the first two, ``durable`` the next two, ``ledger`` the rest.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

LONGEST_LABEL = 255


class Invalidation(models.Model):
    """A tag died: written in the transaction that changed what the tag stands for, and in its database.

    Append-only, so that no row is ever waited for. ``applied_at``: when its stamp was drawn anew in Redis; NULL is
    pending. ``digest`` is that of ``core.tags.Tag``; ``tenant`` is for people, and cut to fit.
    """

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=32, editable=False)
    tag = models.CharField(_("tag"), max_length=210)
    tenant = models.CharField(_("tenant"), max_length=LONGEST_LABEL, blank=True)
    everybody = models.BooleanField(_("everybody's"), default=False)
    cause = models.CharField(_("cause"), max_length=LONGEST_LABEL, blank=True)
    made_at = models.DateTimeField(_("made"))
    applied_at = models.DateTimeField(_("applied"), null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("invalidation")
        verbose_name_plural = _("invalidations")
        indexes = (
            models.Index(fields=["digest"], name="aicache_invalidation_tag"),
            models.Index(fields=["id"], name="aicache_invalidation_pending", condition=Q(applied_at__isnull=True)),
        )

    def __str__(self) -> str:
        return self.tag


class InvalidationTag(models.Model):
    """A tag that is, or was, in use. Kept by the drain and its task, never in a caller's transaction.

    ``compacted``: how many invalidations of it have been deleted; the tag's generation is this and those that stand.
    ``digest`` is that of ``core.tags.Tag``.
    """

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=32, unique=True, editable=False)
    tag = models.CharField(_("tag"), max_length=210)
    tenant = models.CharField(_("tenant"), max_length=LONGEST_LABEL, blank=True)
    everybody = models.BooleanField(_("everybody's"), default=False)
    compacted = models.PositiveBigIntegerField(_("compacted"), default=0)
    seen_at = models.DateTimeField(_("last seen"))

    class Meta:
        default_permissions = ("view",)
        permissions = (("purge_tag", _("Can purge tags")),)
        verbose_name = _("tag")
        verbose_name_plural = _("tags")

    def __str__(self) -> str:
        return self.tag


class CacheEntry(models.Model):
    """The copy of a stored answer, for when Redis has lost it. Written when its caller has long had it.

    ``digest``: that of site, tenant and key; ``question``: the same with the lineage in place of the key. ``payload``:
    the answer, compressed, as ``store.payload`` writes it, with how often the database had seen each tag invalidated
    before upstream was called: under other counts it is dead. ``tags``: names, for people. ``sources``: label and
    version of each row that it was made from. ``hits``: about how often it was served from Redis or from here.
    ``request``: JSON, only where ``AICACHE["STORE_REQUESTS"]`` says so.
    """

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=32, unique=True, editable=False)
    question = models.CharField(max_length=32, editable=False)
    lineage = models.CharField(max_length=64, editable=False)
    key = models.CharField(_("key"), max_length=64)
    owner = models.CharField(max_length=32, editable=False)
    tenant = models.CharField(_("tenant"), max_length=LONGEST_LABEL, blank=True)
    everybody = models.BooleanField(_("everybody's"), default=False)
    model = models.CharField(_("model"), max_length=LONGEST_LABEL, blank=True)
    policy = models.CharField(_("policy"), max_length=LONGEST_LABEL)
    tags = models.JSONField(_("tags"), default=list, blank=True)
    sources = models.JSONField(default=list, editable=False)
    tokens = models.PositiveBigIntegerField(_("tokens"), default=0)
    cost_usd = models.DecimalField(_("cost"), max_digits=16, decimal_places=8, null=True, blank=True)
    created_at = models.DateTimeField(_("created"))
    fresh_until = models.DateTimeField(_("fresh until"))
    expires_at = models.DateTimeField(_("expires"))
    hits = models.PositiveBigIntegerField(_("hits"), default=0)
    hit_at = models.DateTimeField(_("last hit"), null=True, blank=True)
    payload = models.BinaryField()
    request = models.TextField(_("request"), null=True, blank=True)  # noqa: DJ001 - "" is no request; NULL is none kept

    class Meta:
        default_permissions = ("view",)
        permissions = (("purge_entry", _("Can purge entries")),)
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        indexes = (
            models.Index(fields=["question", "id"], name="aicache_entry_question"),
            models.Index(fields=["expires_at"], name="aicache_entry_expires"),
            models.Index(fields=["key"], name="aicache_entry_key"),
        )

    def __str__(self) -> str:
        return self.key[:12]


class IdempotencyKey(models.Model):
    """One answer for a name: the same request under the same key gets it again, another request is a conflict.

    ``digest``: that of site, tenant and key. ``question``: the lineage of the request. ``parts``: salted digests of the
    request's parts, to name those that differ. ``holder``: who is calling upstream for it, until ``held_until`` unless
    it is prolonged. ``answer``: the key of the pinned answer, "" while there is none; ``payload`` as in CacheEntry.
    """

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=32, unique=True, editable=False)
    name = models.CharField(_("key"), max_length=LONGEST_LABEL)
    owner = models.CharField(max_length=32, editable=False)
    tenant = models.CharField(_("tenant"), max_length=LONGEST_LABEL, blank=True)
    everybody = models.BooleanField(_("everybody's"), default=False)
    model = models.CharField(_("model"), max_length=LONGEST_LABEL, blank=True)
    question = models.CharField(max_length=64, editable=False)
    parts = models.JSONField(default=dict, editable=False)
    holder = models.CharField(max_length=32, blank=True, editable=False)
    held_until = models.DateTimeField(_("held until"), null=True, blank=True)
    answer = models.CharField(_("answer"), max_length=64, blank=True)
    payload = models.BinaryField(null=True)
    created_at = models.DateTimeField(_("created"))
    answered_at = models.DateTimeField(_("answered"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        default_permissions = ("view",)
        permissions = (("forget_key", _("Can forget idempotency keys")),)
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        indexes = (models.Index(fields=["expires_at"], name="aicache_key_expires"),)

    def __str__(self) -> str:
        return self.name


class Counted(models.Model):
    """What one process counted for one tenant in one minute: whole figures, which only that process writes.

    So a row that is written twice, or late, is right all the same. Older ones are one for each hour, of no process: "".
    ``minute``: unix seconds of its beginning. ``owner``: digest of the tenant, "" for calls of nobody's. Money is in
    billionths of a dollar.
    """

    id = models.BigAutoField(primary_key=True)
    process = models.CharField(max_length=32, blank=True, editable=False)
    minute = models.BigIntegerField()
    owner = models.CharField(max_length=32, blank=True, editable=False)
    tenant = models.CharField(_("tenant"), max_length=LONGEST_LABEL, blank=True)
    everybody = models.BooleanField(_("everybody's"), default=False)

    class Meta:
        abstract = True


class CallCount(Counted):
    """How calls ended: numbers of calls, but ``upstream_calls`` of requests that were sent, ``unpriced`` of answers
    served without upstream whose price is not known, ``saved_tokens``, and money. One that is not complete may be
    negative.
    """

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
    saved_tokens = models.BigIntegerField(default=0)
    unpriced = models.BigIntegerField(default=0)
    saved_nano_usd = models.BigIntegerField(default=0)
    premium_nano_usd = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("count")
        verbose_name_plural = _("counts")
        constraints = (models.UniqueConstraint(fields=["process", "minute", "owner"], name="aicache_count_cell"),)
        indexes = (models.Index(fields=["minute"], name="aicache_count_minute"),)

    def __str__(self) -> str:
        return f"{self.tenant} {self.minute}"


class PromptCount(Counted):
    """What calls did at the provider's prompt cache, by the model that was asked.

    ``redundant_*``: of a prefix that lived when it was written again. ``missed_*``: how often the provider said so.
    """

    model = models.CharField(_("model"), max_length=LONGEST_LABEL, blank=True)
    reads = models.BigIntegerField(default=0)
    writes = models.BigIntegerField(default=0)
    redundant_writes = models.BigIntegerField(default=0)
    read_tokens = models.BigIntegerField(default=0)
    written_tokens = models.BigIntegerField(default=0)
    redundant_tokens = models.BigIntegerField(default=0)
    waits = models.BigIntegerField(default=0)
    waited_ms = models.BigIntegerField(default=0)
    unpriced = models.BigIntegerField(default=0)
    missed_model_changed = models.BigIntegerField(default=0)
    missed_system_changed = models.BigIntegerField(default=0)
    missed_tools_changed = models.BigIntegerField(default=0)
    missed_messages_changed = models.BigIntegerField(default=0)
    missed_previous_message_not_found = models.BigIntegerField(default=0)
    missed_unavailable = models.BigIntegerField(default=0)
    missed_other = models.BigIntegerField(default=0)
    redundant_nano_usd = models.BigIntegerField(default=0)
    gate_nano_usd = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("prompt cache count")
        verbose_name_plural = _("prompt cache counts")
        constraints = (
            models.UniqueConstraint(fields=["process", "minute", "owner", "model"], name="aicache_prompt_count_cell"),
        )
        indexes = (models.Index(fields=["minute"], name="aicache_prompt_count_minute"),)

    def __str__(self) -> str:
        return f"{self.tenant} {self.model} {self.minute}"


class CountingProcess(models.Model):
    """A process that counts. ``flushed``: how much it has counted and written; ``announced``: how far that may have
    come until it writes again. Of one that is gone, what lies between is lost.

    ``started``: tells processes apart that had the number ``pid`` on ``host`` one after another. ``seen_at`` is by the
    database's clock.
    """

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    host = models.CharField(_("host"), max_length=LONGEST_LABEL)
    pid = models.BigIntegerField(_("process number"))
    started = models.CharField(max_length=32, blank=True, editable=False)
    seen_at = models.DateTimeField(_("last seen"))
    flushed = models.BigIntegerField(_("counted"), default=0)
    announced = models.BigIntegerField(_("announced"), default=0)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("counting process")
        verbose_name_plural = _("counting processes")

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"
