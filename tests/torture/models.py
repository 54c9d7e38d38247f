"""The rows that are fought over. Their versions stand in no key: stamps and generations alone tell old from new."""

# ruff: noqa: DJ008, DJ001 - nobody looks at them, and no organisation is not an empty one
from __future__ import annotations

from typing import Any

from django.db import models

import aicache


def same(row: Any) -> str:
    return "same"


class Label(models.Model):
    name = models.CharField(max_length=20)


@aicache.register(tenant="org", version=same)
class Document(models.Model):
    """A tenant's, or everybody's where ``org`` is None."""

    id = models.IntegerField(primary_key=True)
    org = models.CharField(max_length=20, null=True)
    version = models.BigIntegerField(default=0)
    labels: Any = models.ManyToManyField(Label)


@aicache.register(version=same)
class Notice(models.Model):
    """Everybody's."""

    id = models.IntegerField(primary_key=True)
    version = models.BigIntegerField(default=0)


class Shelf(models.Model):
    """Not registered: its answers hang on a tag that is purged by name."""

    id = models.IntegerField(primary_key=True)
    version = models.BigIntegerField(default=0)


class Page(models.Model):
    """Not registered, and its answers hang on nothing: they are purged one by one."""

    id = models.IntegerField(primary_key=True)
    version = models.BigIntegerField(default=0)


class Tombstone(models.Model):
    """At which version a row was deleted."""

    id = models.IntegerField(primary_key=True)
    version = models.BigIntegerField(default=0)


EVERYTHING = (Document, Notice, Shelf, Page, Tombstone)
