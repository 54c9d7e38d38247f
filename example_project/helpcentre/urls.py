from __future__ import annotations

from django.urls import include, path, register_converter

from example_project.helpcentre import views
from example_project.helpcentre.tenancy import TenantConverter

register_converter(TenantConverter, "tenant")

urlpatterns = [
    path("", views.home, name="home"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("<tenant:tenant>/", views.articles, name="articles"),
    path("<tenant:tenant>/articles/<int:pk>/", views.article, name="article"),
    path("<tenant:tenant>/ask/", views.ask, name="ask"),
]
