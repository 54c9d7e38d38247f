from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AicacheConfig(AppConfig):
    name = "aicache"
    verbose_name = _("AI cache")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from aicache import checks, conf, freshness, sqlite  # noqa: F401 - registers the checks; sees connections made

        conf.get_settings()
        freshness.start(_store)


def _store() -> Any:
    """Asked for at each commit, as tests put another one in its place."""
    from aicache.cache import get_cache

    return get_cache().store
