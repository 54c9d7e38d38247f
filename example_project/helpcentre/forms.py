from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _


class QuestionForm(forms.Form):
    question = forms.CharField(
        label=_("Your question"),
        max_length=500,
        error_messages={"required": _("Please type a question first.")},
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": _("For example: Can I get my money back?")}),
    )
    refresh = forms.BooleanField(
        label=_("Ask anew"), help_text=_("Call Claude even if an answer is kept, and keep the new one."), required=False
    )
    bypass = forms.BooleanField(
        label=_("Bypass the cache"), help_text=_("Call Claude, and keep nothing."), required=False
    )
