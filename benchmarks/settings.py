from __future__ import annotations

import os

SECRET_KEY = "for benchmarks"
USE_TZ = True
INSTALLED_APPS = ["aicache"]
CACHES = {
    "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ.get("AICACHE_BENCH_REDIS", "")},
}
AICACHE = {"SINGLE_TENANT": True}
