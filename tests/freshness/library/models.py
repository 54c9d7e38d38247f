"""Models of every kind that Django knows, as sources and as what lies around them."""

# ruff: noqa: DJ008 - nobody looks at them
from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from aicache.freshness.registry import register


class Org(models.Model):
    name = models.CharField(max_length=50)


class Team(models.Model):
    org = models.ForeignKey(Org, models.CASCADE, null=True)


@register
class Topic(models.Model):
    name = models.CharField(max_length=50)


@register
class Article(models.Model):
    title = models.CharField(max_length=100)
    body = models.TextField(blank=True)
    views = models.IntegerField(default=0)
    topics = models.ManyToManyField(Topic, related_name="articles")
    readers: Any = models.ManyToManyField("Reader", related_name="read")
    similar = models.ManyToManyField("self")


class FeaturedArticle(Article):
    class Meta:
        proxy = True


class Reader(models.Model):
    """Not registered."""

    name = models.CharField(max_length=50)


@register
class Comment(models.Model):
    article = models.ForeignKey(Article, models.CASCADE, related_name="comments")
    text = models.TextField()


@register(tenant="team__org")
class Note(models.Model):
    team = models.ForeignKey(Team, models.CASCADE, null=True)
    text = models.TextField()


def queue_of(ticket: Any) -> list[str]:
    return [f"queue:{ticket.queue}"]


@register(tenant="org", tags=queue_of)
class Ticket(models.Model):
    org = models.ForeignKey(Org, models.CASCADE, null=True)
    queue = models.CharField(max_length=20, default="first")
    text = models.TextField(blank=True)
    watchers = models.ManyToManyField(Reader, through="Watch")


class Watch(models.Model):
    ticket = models.ForeignKey(Ticket, models.CASCADE)
    reader = models.ForeignKey(Reader, models.CASCADE)


@register(tenant="org", version="text")
class Draft(models.Model):
    article = models.ForeignKey(Article, models.SET_NULL, null=True)
    reader = models.ForeignKey(Reader, models.SET_DEFAULT, null=True, default=None)
    org = models.ForeignKey(Org, models.SET_NULL, null=True)
    text = models.TextField()


def owner_of(memo: Any) -> Any:
    return memo.owner or None


@register(tenant=owner_of, skip_unchanged=True, version="updated_at")
class Memo(models.Model):
    owner = models.CharField(max_length=20, blank=True)
    text = models.TextField()
    updated_at = models.DateTimeField(auto_now=True)


class Place(models.Model):
    """Not registered; its heir is."""

    name = models.CharField(max_length=50)


@register
class Restaurant(Place):
    stars = models.IntegerField(default=0)


@register(tenant="org")
class Document(models.Model):
    org = models.ForeignKey(Org, models.CASCADE, null=True)
    title = models.CharField(max_length=50)


@register(tenant="org")
class Contract(Document):
    price = models.IntegerField(default=0)


class Book(models.Model):
    book_id = models.AutoField(primary_key=True)
    title = models.CharField(max_length=50)


class Audio(models.Model):
    audio_id = models.AutoField(primary_key=True)
    minutes = models.IntegerField(default=0)


@register
class AudioBook(Book, Audio):
    """Its row in Audio has another key than itself."""

    voice = models.CharField(max_length=50)


@register(tags=["dates"])
class Dated(models.Model):
    day = models.DateField(null=True)

    class Meta:
        abstract = True


class Event(Dated):
    name = models.CharField(max_length=50)


class Meeting(Dated):
    name = models.CharField(max_length=50)


@register
class ByUuid(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.TextField()


@register
class ByName(models.Model):
    name = models.CharField(max_length=500, primary_key=True)
    text = models.TextField()


@register
class Careful(models.Model):
    text = models.TextField()

    class Meta:
        select_on_save = True


@register
class Chapter(models.Model):
    book = models.ForeignKey(Book, models.CASCADE)

    class Meta:
        order_with_respect_to = "book"


class Pair(models.TextField):  # type: ignore[type-arg]  # a field of a third party, with a value of its own
    def from_db_value(self, value: Any, *_: Any) -> Any:
        return None if value is None else self.to_python(value)

    def to_python(self, value: Any) -> Any:
        return value if value is None or isinstance(value, PairValue) else PairValue(value)

    def get_prep_value(self, value: Any) -> Any:
        return value.text if isinstance(value, PairValue) else value


class PairValue:
    def __init__(self, text: str) -> None:
        self.text = text


class Slug(models.CharField):  # type: ignore[type-arg]  # a field of a third party, which reads before it writes
    def pre_save(self, model_instance: Any, add: bool) -> Any:
        return f"number-{type(model_instance)._base_manager.count()}"


@register
class Page(models.Model):
    slug = Slug(max_length=50)


class Unregistered(models.Model):
    text = models.TextField()


class Loose(models.Model):
    """Registered by some tests, otherwise each."""

    text = models.TextField()


class LooseProxy(Loose):
    class Meta:
        proxy = True


@register
class Kinds(models.Model):
    """Columns of many kinds."""

    at = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    ratio = models.FloatField(null=True)
    data = models.JSONField(null=True)
    raw = models.BinaryField(null=True)
    took = models.DurationField(null=True)
    file = models.FileField(null=True)
    hour = models.TimeField(null=True)
    key = models.UUIDField(null=True)
    own = Pair(null=True)


@register
class Seat(models.Model):
    pk = models.CompositePrimaryKey("row", "number")
    row = models.IntegerField()
    number = models.IntegerField()
    text = models.TextField()


@register
class ByPrice(models.Model):
    id = models.DecimalField(primary_key=True, max_digits=8, decimal_places=2)
    text = models.TextField()


@register
class OfPrice(models.Model):
    """Its key is another row's."""

    price = models.OneToOneField(ByPrice, models.CASCADE, primary_key=True)
    text = models.TextField()


class Lower(models.CharField):  # type: ignore[type-arg]
    """A field of a third party, which gives the database something else."""

    def get_prep_value(self, value: Any) -> Any:
        return str(super().get_prep_value(value)).lower()


@register
class ByLower(models.Model):
    code = Lower(max_length=50, primary_key=True)
    text = models.TextField()


@register
class ByMoment(models.Model):
    at = models.DateTimeField(primary_key=True)
    text = models.TextField()


@register
class Shelf(models.Model):
    pk = models.CompositePrimaryKey("org", "number")
    org = models.UUIDField()
    number = models.IntegerField()
    text = models.TextField()


class AnyCase(models.CharField):  # type: ignore[type-arg]
    """On SQLite."""

    def db_parameters(self, connection: Any) -> Any:
        collation = "NOCASE" if connection.vendor == "sqlite" else None
        return {**super().db_parameters(connection), "collation": collation}


@register(skip_unchanged=True)
class ByAnyCase(models.Model):
    name = AnyCase(max_length=50, primary_key=True)
    text = models.TextField()


@register(skip_unchanged=True)
class Touched(models.Model):
    text = models.TextField()
    touched_at = models.DateTimeField(auto_now=True)


class Folder(models.Model):
    """Not registered; what refers to it is."""

    name = models.CharField(max_length=50)


@register(tenant="owner")
class Receipt(models.Model):
    owner = models.CharField(max_length=20)
    folder = models.ForeignKey(Folder, models.SET_NULL, null=True)


@register(tenant="folder_id")
class Paper(models.Model):
    folder = models.ForeignKey(Folder, models.SET_NULL, null=True)
    copy_in = models.ForeignKey(Folder, models.SET_NULL, null=True, related_name="copies")
