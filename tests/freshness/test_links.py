from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.freshness.library.models import Article, FeaturedArticle, Org, Reader, Ticket, Topic
from tests.freshness.recorder import Recorder, tags
from tests.freshness.test_saves import OUTBOX, queries

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def article(store: Recorder) -> Article:
    return Article.objects.create(title="a")


@pytest.fixture
def topic(article: Article, store: Recorder) -> Topic:
    topic = Topic.objects.create(name="a")
    store.stamped.clear()
    return topic


def both(article: Article, topic: Topic) -> set[object]:
    names = f"library.article:{article.pk}", "library.article:*", f"library.topic:{topic.pk}", "library.topic:*"
    return set(tags(*names))


def test_both_sides_change_from_either(article: Article, topic: Topic, store: Recorder) -> None:
    article.topics.add(topic)
    assert store.taken() == both(article, topic)
    article.topics.add(topic)
    assert store.taken() == set()
    article.topics.remove(topic)
    assert store.taken() == both(article, topic)
    topic.articles.add(article)
    assert store.taken() == both(article, topic)
    topic.articles.remove(article)
    assert store.taken() == both(article, topic)


def test_set(article: Article, topic: Topic, store: Recorder) -> None:
    other = Topic.objects.create(name="b")
    article.topics.set([topic])
    store.stamped.clear()
    article.topics.set([other])
    assert store.taken() == both(article, topic) | both(article, other)
    article.topics.set([other])
    assert store.taken() == set()
    article.topics.set([topic], clear=True)
    assert store.taken() == both(article, topic) | both(article, other)


def test_clear_from_either_side(article: Article, topic: Topic, store: Recorder) -> None:
    article.topics.add(topic)
    store.stamped.clear()
    article.topics.clear()
    assert store.taken() == both(article, topic)
    article.topics.add(topic)
    store.stamped.clear()
    topic.articles.clear()
    assert store.taken() == both(article, topic)


def test_clear_begins_with_a_write(article: Article, topic: Topic) -> None:
    article.topics.add(topic)
    with CaptureQueriesContext(connection) as captured:
        article.topics.clear()
    ran = queries(captured)
    assert ran[:2] == ["BEGIN", "UPDATE library_article_topics"]
    assert ran.count(OUTBOX) == 2


def test_with_one_side_registered(article: Article, topic: Topic, store: Recorder) -> None:
    reader = Reader.objects.create(name="a")
    names = f"library.article:{article.pk}", "library.article:*"
    article.readers.add(reader)
    assert store.taken() == tags(*names)
    reader.read.remove(article)
    assert store.taken() == tags(*names)
    reader.read.add(article)
    assert store.taken() == tags(*names)
    reader.read.clear()
    assert store.taken() == tags(*names)


def test_with_itself(article: Article, topic: Topic, store: Recorder) -> None:
    other = Article.objects.create(title="b")
    names = f"library.article:{article.pk}", f"library.article:{other.pk}", "library.article:*"
    store.stamped.clear()
    article.similar.add(other)
    assert store.taken() == tags(*names)
    other.similar.clear()
    assert store.taken() == tags(*names)


def test_through_a_model_of_the_site_and_with_a_tenant(article: Article, topic: Topic, store: Recorder) -> None:
    org = Org.objects.create(name="a")
    ticket = Ticket.objects.create(org=org)
    reader = Reader.objects.create(name="a")
    names = f"library.ticket:{ticket.pk}", "library.ticket:*", "queue:first"
    store.stamped.clear()
    ticket.watchers.add(reader)
    assert store.taken() == tags(*names, tenant=org.pk)
    reader.ticket_set.clear()
    assert store.taken() == tags(*names, tenant=org.pk)


def test_by_a_proxy(article: Article, topic: Topic, store: Recorder) -> None:
    FeaturedArticle.objects.get().topics.add(topic)
    assert store.taken() == both(article, topic)
    FeaturedArticle.objects.get().topics.clear()
    assert store.taken() == both(article, topic)
