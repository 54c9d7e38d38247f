"""What is shown in the place of a page whose database does not answer, where the admin's own does."""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

from django.contrib.admin import ModelAdmin
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _

from aicache.conf import get_settings

logger = logging.getLogger("aicache")


def told(admin: ModelAdmin[Any], pattern: URLPattern) -> URLPattern:
    """The pattern, whose view now answers 503 where it fails so."""
    view = pattern.callback

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            shown: HttpResponse = view(request, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            logger.warning("a page of the admin is not shown: %s", error)
            return _silence(admin, request)
        return shown

    pattern.callback = answer
    return pattern


def _silence(admin: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    request.current_app = admin.admin_site.name  # the admin's own way
    context = {
        **admin.admin_site.each_context(request),
        "title": _("This cannot be shown now"),
        "opts": admin.opts,
        "media": admin.media,
        "alias": get_settings().database,
    }
    return TemplateResponse(request, "admin/aicache/silence.html", context, status=503)
