"""A tenant's gateways in the back office. Their secrets are typed in here, and never shown."""

import re
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables

from core.admin import (
    Act,
    BackOfficeAdmin,
    Done,
    ReasonForm,
    StandingFilter,
    TenantFilter,
    badge,
    page_url,
    panel_on,
)
from core.money import EXPONENTS
from core.permissions import Permission
from payments import services
from payments.admin.tenants import OfTenantForm
from payments.gateways import breaker
from payments.gateways.registry import CAPABILITIES, notify_url
from payments.models import GatewayConfiguration

PRIORITY_MAX = 32_767
CURRENCIES_MAX = 50
_PREFIX = "credential_"
_SECRET_LENGTH_MAX = 500
# It becomes a header.
_HEADER_TEXT = RegexValidator(r"^[\x21-\x7e]+\Z", "Letters, digits and signs only, no blanks.")
_WEBHOOK_SECRET = RegexValidator(
    r"^[\x21-\x7e]{8,255}\Z", "8 to 255 letters, digits and signs, no blanks."
)
# Of the own account at the bank. No secrets, though they are kept like those.
_PLAIN_LABELS = {
    "debtor_name": "Holder of your own account",
    "debtor_account": "IBAN or account number of your own account",
    "debtor_country": "Country of the holder, in two letters",
    "debtor_bic": "BIC of your bank, if it asks for one",
    "debtor_town": "Town of the holder, if the bank asks for it",
}
_FOR = {
    GatewayConfiguration.Gateway.XENDIT: "cards and payment pages, payouts to banks",
    GatewayConfiguration.Gateway.MIDTRANS: "cards and payment pages in Indonesia",
    GatewayConfiguration.Gateway.SANDBOX: "the simulator, for trying things out",
    GatewayConfiguration.Gateway.BANK_FILE: "payouts as files for your own bank",
}


def _secret_field(label: str, *validators: RegexValidator, help_text: str = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        max_length=_SECRET_LENGTH_MAX,
        validators=validators,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=help_text,
    )


def _webhook_secret_field() -> forms.CharField:
    help_text = "What the gateway proves itself with: at Xendit, the webhook verification token."
    return _secret_field("Webhook secret", _WEBHOOK_SECRET, help_text=help_text)


def _credential_fields(gateway: str) -> dict[str, forms.Field]:
    """Return a field for each credential that the gateway has."""
    capabilities = CAPABILITIES[gateway]
    fields: dict[str, forms.Field] = {}
    for name in (*capabilities.credentials, *capabilities.optional_credentials):
        if name in _PLAIN_LABELS:
            field = forms.CharField(label=_PLAIN_LABELS[name], max_length=_SECRET_LENGTH_MAX)
        else:
            label = name.replace("_", " ").capitalize()
            help_text = "Kept encrypted, and never shown again."
            field = _secret_field(label, _HEADER_TEXT, help_text=help_text)
        field.required = name in capabilities.credentials
        fields[f"{_PREFIX}{name}"] = field
    return fields


def _credentials_in(cleaned: dict[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix(_PREFIX): value
        for name, value in cleaned.items()
        if name.startswith(_PREFIX) and value
    }


class CurrenciesField(forms.CharField):
    """Several currencies, with commas or blanks between them."""

    def clean(self, value: Any) -> list[str]:
        codes = sorted(
            {code.upper() for code in re.split(r"[\s,;]+", super().clean(value)) if code}
        )
        unknown = [code for code in codes if code not in EXPONENTS]
        if unknown:
            raise ValidationError("There is no currency %(code)s.", params={"code": unknown[0]})
        if not 0 < len(codes) <= CURRENCIES_MAX:
            raise ValidationError(f"Name between 1 and {CURRENCIES_MAX} currencies.")
        return codes


class _SettingsForm(forms.Form):
    name = forms.CharField(
        max_length=100, required=False, help_text="What you call it; may stay empty."
    )
    currencies = CurrenciesField(max_length=400, help_text="Such as IDR, USD.")
    priority = forms.IntegerField(
        min_value=0,
        max_value=PRIORITY_MAX,
        initial=100,
        help_text="Of several that take a currency, the lowest number goes first.",
    )


class ChooseGatewayForm(forms.Form):
    gateway = forms.ChoiceField(
        choices=[(gateway, f"{gateway.label}: {_FOR[gateway]}") for gateway in _FOR],
        help_text="The next page asks for what it needs.",
    )


class NewGatewayForm(_SettingsForm, OfTenantForm):
    field_order = ["tenant", "mode", "name"]

    def __init__(self, data: Any, *, request: HttpRequest, gateway: str) -> None:
        super().__init__(data, request=request)
        self.gateway = gateway
        capabilities = CAPABILITIES[gateway]
        modes = [mode for mode in GatewayConfiguration.Mode if mode.value in capabilities.modes]
        self.fields["mode"] = forms.ChoiceField(
            choices=[(mode.value, mode.label) for mode in modes],
            help_text="Test and live gateways of a tenant are never enabled together.",
        )
        if capabilities.currencies:
            self.fields[
                "currencies"
            ].help_text = f"Of {', '.join(sorted(capabilities.currencies))}."
        self.fields |= _credential_fields(gateway)
        if capabilities.needs_webhook_secret:
            self.fields["webhook_secret"] = _webhook_secret_field()
        self.order_fields(self.field_order)

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.errors:
            cleaned["new"] = services.NewGateway(
                gateway=self.gateway,
                mode=cleaned["mode"],
                credentials=_credentials_in(cleaned),
                currencies=cleaned["currencies"],
                webhook_secret=cleaned.get("webhook_secret", ""),
                name=cleaned["name"],
                priority=cleaned["priority"],
            )
        return cleaned


# --- Acts --------------------------------------------------------------------------------------
class _ChangingAct(Act[GatewayConfiguration]):
    permission = Permission.MANAGE_GATEWAYS
    sentence: str

    def is_offered(self, obj: GatewayConfiguration) -> bool:
        return obj.deleted_at is None

    def changes(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        """Return what the service is to change."""
        raise NotImplementedError

    @sensitive_variables()
    def run(self, obj: GatewayConfiguration, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.change_gateway(
            tenant_id=obj.tenant_id,
            configuration_id=obj.pk,
            changes=self.changes(cleaned),
            now=timezone.now(),
        )
        return Done(self.sentence)


class Enable(_ChangingAct):
    name, label = "enable", "Enable"
    warning = "New payments go through it. All enabled gateways of a tenant are of one mode."
    sentence = "The gateway is enabled."

    def is_offered(self, obj: GatewayConfiguration) -> bool:
        return super().is_offered(obj) and not obj.is_enabled

    def changes(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        return {"is_enabled": True}


class Disable(_ChangingAct):
    name, label = "disable", "Disable"
    warning = "No new payments go through it. Those under way are still asked about, and end."
    sentence = "The gateway is disabled."

    def is_offered(self, obj: GatewayConfiguration) -> bool:
        return super().is_offered(obj) and obj.is_enabled

    def changes(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        return {"is_enabled": False}


class ChangeGatewayForm(_SettingsForm, ReasonForm):
    field_order = ["name", "currencies", "priority", "reason"]

    def __init__(self, data: Any, *, configuration: GatewayConfiguration) -> None:
        self.before = {
            "name": configuration.name,
            "currencies": sorted(configuration.currencies),
            "priority": configuration.priority,
        }
        shown = {**self.before, "currencies": ", ".join(configuration.currencies)}
        super().__init__(data, initial=shown)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            cleaned["changes"] = {
                name: cleaned[name] for name, was in self.before.items() if cleaned[name] != was
            }
            if not cleaned["changes"]:
                raise ValidationError("Nothing is different.")
        return cleaned


class Change(_ChangingAct):
    name, label = "edit", "Change"
    warning = "It counts for new payments. Gateway and mode stay what they are."
    sentence = "The gateway is changed."

    def form(self, obj: GatewayConfiguration, data: Any) -> ChangeGatewayForm:
        return ChangeGatewayForm(data, configuration=obj)

    def changes(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = cleaned["changes"]
        return changed


class RotateCredentialsForm(ReasonForm):
    def __init__(self, data: Any, *, gateway: str) -> None:
        super().__init__(data)
        self.fields |= _credential_fields(gateway)
        self.order_fields([*(name for name in self.fields if name != "reason"), "reason"])


class RotateCredentials(_ChangingAct):
    name, label = "credentials", "Rotate credentials"
    warning = "The next call to the gateway uses the new ones. The old ones are forgotten."
    sentence = "The credentials are replaced."

    def form(self, obj: GatewayConfiguration, data: Any) -> RotateCredentialsForm:
        return RotateCredentialsForm(data, gateway=obj.gateway)

    @sensitive_variables()
    def changes(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        return {"credentials": _credentials_in(cleaned)}


class RotateWebhookSecretForm(ReasonForm):
    webhook_secret = _webhook_secret_field()
    field_order = ["webhook_secret", "reason"]


class RotateWebhookSecret(_ChangingAct):
    name, label = "webhook-secret", "Rotate webhook secret"
    warning = "Notifications are taken with the new one at once, and with the old one for a day."
    sentence = "The webhook secret is replaced."

    def is_offered(self, obj: GatewayConfiguration) -> bool:
        return super().is_offered(obj) and CAPABILITIES[obj.gateway].needs_webhook_secret

    def form(self, obj: GatewayConfiguration, data: Any) -> RotateWebhookSecretForm:
        return RotateWebhookSecretForm(data)

    @sensitive_variables()
    def changes(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        return {"webhook_secret": cleaned["webhook_secret"]}


class Delete(Act[GatewayConfiguration]):
    name, label, permission = "remove", "Delete", Permission.MANAGE_GATEWAYS
    warning = (
        "Deleted is for good: its credentials are forgotten, its notifications are refused, and"
        " what was paid through it can no longer be refunded here. That is refused while"
        " payments are under way."
    )
    is_dangerous = True

    def is_offered(self, obj: GatewayConfiguration) -> bool:
        return obj.deleted_at is None

    def run(self, obj: GatewayConfiguration, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.delete_gateway(
            tenant_id=obj.tenant_id, configuration_id=obj.pk, now=timezone.now()
        )
        return Done("The gateway is deleted.")


# --- The list and the page ---------------------------------------------------------------------
class UseFilter(StandingFilter):
    title = "use"
    parameter_name = "use"
    standing_label = "Not deleted"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [("deleted", "Deleted"), ("all", "All")]

    def standing(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(deleted_at=None)

    def others(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.exclude(deleted_at=None)


@admin.register(GatewayConfiguration)
class GatewayAdmin(BackOfficeAdmin[GatewayConfiguration]):
    list_display = ("line", "status_badge", "mode", "currency_codes", "priority", "credential")
    list_filter = ("gateway", "mode", UseFilter, TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id."
    acts = (
        Enable(),
        Disable(),
        Change(),
        RotateCredentials(),
        RotateWebhookSecret(),
        Delete(),
    )
    view_permission = Permission.VIEW_GATEWAYS
    add_permission = Permission.MANAGE_GATEWAYS

    def get_queryset(self, request: HttpRequest) -> QuerySet[GatewayConfiguration]:
        # What nobody shows, nobody reads.
        return super().get_queryset(request).defer("credentials", "previous_webhook_secret")

    @admin.display(description="Gateway")
    def line(self, obj: GatewayConfiguration) -> SafeString:
        return format_html("{}<small>{}</small>", str(obj), obj.get_gateway_display())

    @admin.display(description="Status")
    def status_badge(self, obj: GatewayConfiguration) -> SafeString:
        return self.status(obj)

    @admin.display(description="Currencies")
    def currency_codes(self, obj: GatewayConfiguration) -> str:
        return ", ".join(obj.currencies)

    @admin.display(description="Credential", empty_value="")
    def credential(self, obj: GatewayConfiguration) -> str | None:
        return f"…{obj.credential_hint}" if obj.credential_hint else None

    def heading(self, obj: GatewayConfiguration) -> str:
        return str(obj)

    def status(self, obj: GatewayConfiguration) -> SafeString:
        if obj.deleted_at is not None:
            return badge("closed", "Deleted")
        return badge("active", "Enabled") if obj.is_enabled else badge("expired", "Disabled")

    def figures(self, obj: GatewayConfiguration) -> list[tuple[str, str]]:
        return [
            ("Gateway", obj.get_gateway_display()),
            ("Mode", obj.get_mode_display()),
            ("Currencies", ", ".join(obj.currencies)),
            ("Priority", str(obj.priority)),
        ]

    def facts(self, obj: GatewayConfiguration) -> list[tuple[str, Any]]:
        is_called = obj.gateway != GatewayConfiguration.Gateway.BANK_FILE
        until = obj.previous_webhook_secret_until
        is_overlapping = until is not None and until > timezone.now()
        return [
            ("Id", obj.pk),
            ("Calls to it", _circuit(obj) if is_called and obj.deleted_at is None else ""),
            ("Credential", self.credential(obj) or ""),
            ("Webhook secret", _webhook_secret(obj)),
            ("Old one until", until if is_overlapping else ""),
            ("Tenant", obj.tenant),
            ("Set up", obj.created_at),
            ("Last changed", obj.updated_at),
            ("Deleted", obj.deleted_at),
        ]

    def new_form(self, request: HttpRequest, data: Any) -> forms.Form:
        gateway = request.GET.get("gateway", "")
        if gateway in CAPABILITIES:
            return NewGatewayForm(data, request=request, gateway=gateway)
        return ChooseGatewayForm(data)

    @sensitive_variables()
    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> HttpResponse:
        if "new" not in cleaned:
            return HttpResponseRedirect(
                f"{request.path}?{urlencode({'gateway': cleaned['gateway']})}"
            )
        with transaction.atomic():
            made = services.add_gateway(
                tenant_id=cleaned["tenant_id"], new=cleaned["new"], now=timezone.now()
            )
            self.log_addition(request, made, "Added.")
        if made.gateway == GatewayConfiguration.Gateway.BANK_FILE:
            next_step = "Payouts through it are gathered into files."
        else:
            next_step = "Now enter its webhook URL at the gateway."
        self.message_user(request, f"Added: {made}. {next_step}", messages.SUCCESS)
        return HttpResponseRedirect(page_url(GatewayConfiguration, made.pk))

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        response = super().add_view(request, form_url, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            form = response.context_data["form"]
            if isinstance(form, NewGatewayForm):
                gateway = GatewayConfiguration.Gateway(form.gateway)
                response.context_data["title"] = f"Add gateway: {gateway.label}"
            else:
                response.context_data["submit"] = "Continue"
        return response


@panel_on(GatewayConfiguration)
def webhook_panel(request: HttpRequest, configuration: GatewayConfiguration) -> str:
    """Return where the gateway sends its notifications; nothing where it sends none."""
    is_called = configuration.gateway != GatewayConfiguration.Gateway.BANK_FILE
    if not is_called or configuration.deleted_at is not None:
        return ""
    return render_to_string("admin/webhook_url_panel.html", {"url": notify_url(configuration)})


def _circuit(configuration: GatewayConfiguration) -> str:
    if breaker.is_open(configuration.circuit):
        return (
            f"Paused: {breaker.FAILURES_MAX} in a row have failed. One is let through every"
            f" {breaker.OPEN_S} seconds to see whether it answers again."
        )
    return "Let through"


def _webhook_secret(configuration: GatewayConfiguration) -> str:
    if configuration.webhook_secret is not None:
        return "set"
    return "none" if CAPABILITIES[configuration.gateway].needs_webhook_secret else ""
