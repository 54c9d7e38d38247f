from __future__ import annotations

from django.contrib import admin

from example_project.helpcentre.models import Article


@admin.register(Article)
class ArticleAdmin(admin.ModelAdmin):
    list_display = ("title", "tenant", "updated_at")
    list_filter = ("tenant",)
    search_fields = ("title", "body")
    readonly_fields = ("updated_at",)
