from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    # Here rather than in the server, so that the pages look the same under any WSGI or ASGI server.
    *staticfiles_urlpatterns(),
    path("", include("example_project.helpcentre.urls")),
]
