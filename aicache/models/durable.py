"""Copies of answers, when they were served, and idempotency keys. Written by ``durable``, but for the hits."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from aicache.models.label import LONGEST_LABEL


class CacheEntry(models.Model):
    """The copy of a stored answer, for when Redis has lost it. Written when its caller has long had it.

    ``digest``: that of site, tenant and key; ``question``: the same with the lineage in place of the key. ``payload``:
    the answer, compressed, as ``store.payload`` writes it, with how often the database had seen each tag invalidated
    before upstream was called: under other counts it is dead. ``tags``: names, for people. ``sources``: label and
    version of each row that it was made from. ``hits``: about how often it was served from Redis or from here.
    ``request``: JSON, only where ``AICACHE["STORE_REQUESTS"]`` says so; ``circumstances``: with it, what of its scope
    is in the key beside the sources: locale, tags as they were given, vary, variant.
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

    circumstances = models.JSONField(null=True, blank=True, editable=False)

    class Meta:
        default_permissions = ("view",)
        permissions = (
            ("purge_entry", _("Can purge entries")),
            ("view_content", _("Can read questions and answers")),
            ("mark_wrong", _("Can mark answers as right or wrong")),
            ("refresh_entry", _("Can have answers made anew")),
        )
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        indexes = (
            models.Index(fields=["question", "id"], name="aicache_entry_question"),
            models.Index(fields=["expires_at"], name="aicache_entry_expires"),
            models.Index(fields=["key"], name="aicache_entry_key"),
        )

    def __str__(self) -> str:
        return self.key[:12]


class EntryHits(models.Model):
    """About how often an answer was served in one hour, and in one day. Written by ``ledger.hits``.

    ``entry``: the id of its row, which goes without asking what points at it. ``span``: seconds, of an hour or a day;
    ``start``: unix seconds of its beginning.
    """

    id = models.BigAutoField(primary_key=True)
    entry = models.BigIntegerField()
    span = models.IntegerField()
    start = models.BigIntegerField()
    hits = models.PositiveBigIntegerField(_("hits"), default=0)

    class Meta:
        default_permissions = ()
        verbose_name = _("hits of an entry")
        verbose_name_plural = _("hits of entries")
        constraints = (models.UniqueConstraint(fields=["entry", "span", "start"], name="aicache_hits_cell"),)
        indexes = (models.Index(fields=["span", "start"], name="aicache_hits_time"),)

    def __str__(self) -> str:
        return f"{self.entry} {self.start}"


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
