"""What every page shows: the two help-centres, and whether a stand-in answers."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from example_project.helpcentre.tenancy import TENANTS


def helpcentre(request: HttpRequest) -> dict[str, Any]:
    return {"tenants": list(TENANTS.values()), "stand_in": settings.HELPCENTRE_CLAUDE_URL is not None}
