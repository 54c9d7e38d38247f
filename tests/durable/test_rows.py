"""Times are those of the site, whatever zone is active."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.test import override_settings
from django.utils import timezone

from aicache.durable.rows import LAST, moment


def test_a_time_is_written_as_the_site_reads_it() -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"), timezone.override(ZoneInfo("America/Los_Angeles")):
        now = datetime.now(ZoneInfo("Europe/Berlin"))
        assert moment(now.timestamp()) == now.replace(tzinfo=None)


def test_no_number_is_too_large() -> None:
    assert moment(1e300) - LAST == timedelta(0)
    assert moment(-1e300).year == 1970
