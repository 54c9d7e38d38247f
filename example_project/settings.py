"""Three environment variables choose where things are; everything else is fixed.

AICACHE_DEMO_REDIS    the Redis (or Valkey) to cache in
AICACHE_DEMO_CLAUDE   the base URL of the stand-in for Claude; unset: the real API, which costs money
AICACHE_DEMO_DB       the path of the SQLite file
"""

from __future__ import annotations

import os
from pathlib import Path

BASE_DIR = Path(__file__).parents[1]

# Fit for one person's own machine only.
DEBUG = True
SECRET_KEY = "the example project keeps no secrets"

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "aicache",
    "example_project.helpcentre",
]

MIDDLEWARE = [
    "example_project.csp.strict",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "aicache.middleware.ScopeMiddleware",  # last: it asks for the tenant and the language
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.i18n",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "example_project.helpcentre.context.helpcentre",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("AICACHE_DEMO_DB") or BASE_DIR / "helpcentre.sqlite3",
        # Readers and a writer at the same time, and writers that wait for each other: what has read and then wants to
        # write would fail at once if somebody had written in between.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("AICACHE_DEMO_REDIS") or "redis://127.0.0.1:6379/0",
    }
}

AICACHE = {
    "TENANT": "example_project.helpcentre.tenancy.tenant_of",
    "STAFF_TENANTS": "example_project.helpcentre.tenancy.staff_tenants",
    # The questions of one page, asked at the same time with the same long text: one pays for writing it to the
    # provider's prompt cache, the others wait until they can read it.
    "POLICIES": {"panels": {"ttl": 300, "prompt_cache": {"settle": "adaptive", "latency_value": 0.0005}}},
    "REFRESH": "example_project.helpcentre.answers.again",
    "STORE_REQUESTS": True,  # nobody's secrets are asked here: the admin may show the questions
}

HELPCENTRE_CLAUDE_URL = os.environ.get("AICACHE_DEMO_CLAUDE") or None
HELPCENTRE_MODEL = "claude-sonnet-5"

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = True
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "example_project" / "locale"]

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "example_project" / "static"]
