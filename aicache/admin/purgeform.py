"""The form that names a tag to purge, and whose."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.conf import get_settings
from aicache.core.tags import EVERYBODY, OURS
from aicache.freshness.options import LONGEST_TAG
from aicache.purge import Purge
from aicache.purge import whose as owner_named
from aicache.sight import Sight


class PurgeForm(forms.Form):
    # Spaces are part of a name, of a tenant's too: without them another one would die.
    tag = forms.CharField(
        strip=False,
        label=gettext_lazy("Tag"),
        help_text=gettext_lazy(
            "Such as shop.product:42 for one row, shop.product for all of them, or a name of yours."
        ),
        widget=forms.TextInput(attrs={"class": "vTextField", "autofocus": True, "spellcheck": "false"}),
    )
    whose = forms.ChoiceField(
        label=gettext_lazy("Whose answers"),
        choices=[("tenant", gettext_lazy("one tenant's")), ("everybody", gettext_lazy("everybody's, of all tenants"))],
        initial="tenant",
        widget=forms.RadioSelect(attrs={"class": "radiolist"}),
    )
    tenant = forms.CharField(
        strip=False,
        label=gettext_lazy("Tenant"),
        help_text=gettext_lazy("As the site's code names it: mostly its primary key."),
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
    )

    def __init__(self, seen: Sight, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if get_settings().single_tenant:
            del self.fields["whose"], self.fields["tenant"]
        elif seen.owners is not None:
            self._limit(seen)

    def _limit(self, seen: Sight) -> None:
        """To what is in sight. What is not offered is not accepted either."""
        names = sorted(tenant for tenant in seen.tenants if isinstance(tenant, str))
        asked = self.fields["tenant"]
        self.fields["tenant"] = forms.ChoiceField(
            choices=[("", "---------"), *((name, name) for name in names)], label=asked.label, required=False
        )
        offered = {"tenant": bool(names), "everybody": seen.covers(EVERYBODY)}
        whose: Any = self.fields["whose"]
        whose.choices = [choice for choice in whose.choices if offered[choice[0]]]
        if not offered["everybody"]:
            del self.fields["whose"]
        if not names:
            del self.fields["tenant"]
            whose.initial = "everybody"

    def clean_tag(self) -> str:
        tag: str = self.cleaned_data["tag"]
        try:
            size = len(tag.encode())
        except UnicodeEncodeError:
            raise ValidationError(_("This cannot be a tag.")) from None
        if size > LONGEST_TAG:
            raise ValidationError(_("At most %(most)d bytes; this has %(size)d.") % {"most": LONGEST_TAG, "size": size})
        if tag.startswith(OURS):
            raise ValidationError(_("No tag of a site's begins with %(ours)s.") % {"ours": OURS})
        return tag

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if "tenant" in self.fields and not given.get("tenant") and not self.has_error("tenant"):
            if "whose" not in self.fields:
                self.add_error("tenant", _("Name the tenant."))
            elif given.get("whose") == "tenant":
                self.add_error("tenant", _("Name the tenant, or choose everybody's."))
        return given

    def purge(self) -> Purge:
        """What a valid form asks for."""
        given = self.cleaned_data
        everybody = given.get("whose") == "everybody"
        tenant = None if everybody else given.get("tenant")
        return Purge.of([given["tag"]], owner_named(tenant, all_tenants=everybody))
