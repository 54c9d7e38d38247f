"""Figures for other systems: mounted by who wants them, seen by staff, and by who has the token."""

from __future__ import annotations

import hmac
import time
from typing import Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from aicache.conf import get_settings
from aicache.ledger import rows, stats
from aicache.ledger.document import as_json
from aicache.ledger.length import seconds_of
from aicache.sight import EVERYTHING, Sight, sight

PERMISSION: Final = "aicache.view_dashboard"
LACKING: Final = "prometheus-client is not installed: pip install 'django-aicache[metrics]'"


@never_cache
@require_safe
def figures(request: HttpRequest) -> HttpResponse:
    """JSON of what ``cache_stats --json`` says, and a summary. ``?since=24h``, ``?tenant=acme``.

    400 says what is wrong with these, 401 and 403 that it is not for whoever asks, 503 that nothing is counted.
    """
    seen = _seen(request)
    if isinstance(seen, HttpResponse):
        return seen
    since = request.GET.get("since")
    try:
        began = None if since is None else time.time() - seconds_of(since)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    using = get_settings().database
    try:
        rows.find_place(using)
    except rows.NoPlace as trouble:
        return JsonResponse({"error": f"nothing is counted: {trouble}"}, status=503)
    found = stats.read(using, since=began, tenant=request.GET.get("tenant"), owners=seen.owners)
    unknown = {} if seen.owners is None else {"lost": None}  # whose they would have been
    return JsonResponse({**as_json(found), **unknown})


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus's exposition of the whole site's counts.

    401 and 403 say that it is not for whoever asks, who may see some tenants only among them; 501 that
    ``prometheus-client`` is not installed, 503 that nothing is counted.
    """
    seen = _seen(request)
    if isinstance(seen, HttpResponse):
        return seen
    if seen.owners is not None:
        return HttpResponse("These are the figures of all tenants.\n", status=403, content_type="text/plain")
    try:
        from aicache.ledger.prometheus import exposition
    except ImportError:
        return HttpResponse(f"{LACKING}\n", status=501, content_type="text/plain")
    using = get_settings().database
    try:
        rows.find_place(using)
    except rows.NoPlace as trouble:
        return HttpResponse(f"nothing is counted: {trouble}\n", status=503, content_type="text/plain")
    body, content_type = exposition(using, request.headers.get("accept", ""))
    return HttpResponse(body, content_type=content_type)


def _seen(request: HttpRequest) -> Sight | HttpResponse:
    """What whoever asks may see, or what says that it is nothing."""
    token, user = get_settings().metrics_token, getattr(request, "user", None)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return EVERYTHING
    if user is not None and user.is_active and user.is_staff and user.has_perm(PERMISSION):
        return sight(request)
    if user is not None and user.is_authenticated:
        return HttpResponse(f"It takes the right {PERMISSION}.\n", status=403, content_type="text/plain")
    refused = HttpResponse("It takes a token, or a member of staff.\n", status=401, content_type="text/plain")
    refused["WWW-Authenticate"] = 'Bearer realm="aicache"'
    return refused
