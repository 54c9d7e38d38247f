from __future__ import annotations

from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

import aicache
from example_project.helpcentre.tenancy import TENANTS


@aicache.register(tenant="tenant")
class Article(models.Model):
    tenant = models.CharField(_("tenant"), max_length=20, choices=[(slug, t.name) for slug, t in TENANTS.items()])
    title = models.CharField(_("title"), max_length=100)
    body = models.TextField(_("text"))
    updated_at = models.DateTimeField(_("last changed"), auto_now=True)

    class Meta:
        ordering = ("pk",)
        verbose_name = _("article")
        verbose_name_plural = _("articles")
        constraints = (models.UniqueConstraint(fields=("tenant", "title"), name="one_title_per_tenant"),)

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("article", args=(self.tenant, self.pk))
