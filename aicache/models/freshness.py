"""Which tags died, and which are in use. Written by ``freshness``."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aicache.models.label import LONGEST_LABEL


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
