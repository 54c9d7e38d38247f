from __future__ import annotations

import os

SECRET_KEY = "for tests"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "aicache"]
ROOT_URLCONF = "tests.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("AICACHE_TEST_REDIS", "redis://127.0.0.1:6379/9"),
    }
}
AICACHE: dict[str, object] = {}
