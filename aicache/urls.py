"""Figures for other systems, for who mounts them: ``path("aicache/", include("aicache.urls"))``."""

from __future__ import annotations

from django.urls import path

from aicache import views

app_name = "aicache"
urlpatterns = [
    path("stats.json", views.figures, name="stats"),
    path("metrics", views.metrics, name="metrics"),
]
