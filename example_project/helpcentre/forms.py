from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _


class DrawnAnew(forms.HiddenInput):
    """Another value each time that the form is shown, whatever was sent."""

    def format_value(self, value: Any) -> str:
        return str(uuid.uuid4())


class QuestionForm(forms.Form):
    """``idempotency_key`` names one asking: a double-click, or a browser that sends the form again, sends the same."""

    # A browser would put back what was in the field before the page was loaded anew.
    idempotency_key = forms.UUIDField(
        required=False,
        widget=DrawnAnew(attrs={"autocomplete": "off"}),
        error_messages={"invalid": _("This form is not as it was sent to you. Please ask again.")},
    )
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

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if key := cleaned.get("idempotency_key"):
            # Who goes back and ticks the box does not want the answer that this form has had before.
            cleaned["idempotency_key"] = f"{key}-anew" if cleaned.get("refresh") else str(key)
        return cleaned
