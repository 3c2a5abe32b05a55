"""Forms that make something new in a tenant."""

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest

from core.admin import sees_every_tenant, staff_tenant_id
from identity.models import Tenant


class OfTenantForm(forms.Form):
    """Asks for the tenant those who see more than one; for the others it is their own."""

    def __init__(self, data: Any, *, request: HttpRequest, files: Any = None) -> None:
        super().__init__(data, files)
        self._own_tenant_id = staff_tenant_id(request)
        if sees_every_tenant(request):
            self.fields["tenant"] = forms.ModelChoiceField(
                Tenant.objects.order_by("name"), initial=self._own_tenant_id
            )
            self.order_fields(["tenant"])

    @property
    def tenant_id(self) -> UUID:
        chosen: Tenant | None = self.cleaned_data.get("tenant")
        return chosen.pk if chosen else self._own_tenant_id

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        cleaned["tenant_id"] = self.tenant_id
        return cleaned
