from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("admin/", admin.site.urls),
    # Here rather than in the server, so that the pages look the same under any WSGI or ASGI server.
    *staticfiles_urlpatterns(),
    # The admin's pages name no icon, so browsers ask for this one.
    path("favicon.ico", RedirectView.as_view(url=static("helpcentre/icon.svg"))),
    path("", include("example_project.helpcentre.urls")),
]
