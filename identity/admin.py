"""Tenants, people and keys in the back office."""

from typing import Any
from uuid import UUID

import django_otp
import segno
from django import forms
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import update_session_auth_hash, user_logged_in, user_logged_out
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm, SetPasswordMixin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.dispatch import Signal, receiver
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables

from core.addresses import client_address
from core.admin import (
    Act,
    BackOfficeAdmin,
    Done,
    ReasonForm,
    TenantFilter,
    badge,
    is_staff,
    metadata_lines,
    minute,
    page_url,
    sees_every_tenant,
    staff_tenant_id,
)
from core.errors import DomainError
from core.models import AuditRecord
from core.permissions import Permission
from identity import services
from identity.models import ApiKey, Tenant, User


class _OfTenantForm(forms.Form):
    """Asks for the tenant those who see more than one; for the others it is their own."""

    def __init__(self, data: Any, *, request: HttpRequest) -> None:
        super().__init__(data)
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


# --- Tenants -----------------------------------------------------------------------------------
class NewTenantForm(forms.Form):
    name = forms.CharField(max_length=100)


@admin.register(Tenant)
class TenantAdmin(BackOfficeAdmin[Tenant]):
    list_display = ("name", "id", "opened")
    search_fields = ("pk",)
    search_help_text = "A whole id."
    tenant_lookup = "pk"
    view_permission = Permission.VIEW_ACCOUNTS

    def has_add_permission(self, request: HttpRequest) -> bool:
        return sees_every_tenant(request)

    @admin.display(description="Opened")
    def opened(self, obj: Tenant) -> str:
        return f"{obj.created_at:%Y-%m-%d}"

    def new_form(self, request: HttpRequest, data: Any) -> NewTenantForm:
        return NewTenantForm(data)

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> Tenant:
        return services.create_tenant(name=cleaned["name"], now=timezone.now())

    def facts(self, obj: Tenant) -> list[tuple[str, Any]]:
        return [("Id", obj.pk), ("Opened", obj.created_at)]


# --- People ------------------------------------------------------------------------------------
class NewUserForm(SetPasswordMixin, _OfTenantForm):  # type: ignore[type-arg]  # not generic at run time
    email = forms.EmailField(max_length=254)
    full_name = forms.CharField(max_length=150, required=False)
    role = forms.ChoiceField(choices=User.Role.choices)
    password1, password2 = SetPasswordMixin.create_password_fields()

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].lower()
        if User.objects.filter(email=email).exists():
            raise ValidationError("Somebody with this address exists.")
        return email

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        self.validate_passwords()
        person = User(email=cleaned.get("email", ""), full_name=cleaned.get("full_name", ""))
        self.validate_password_for_user(person, "password2")
        return cleaned


class ChangeUserForm(ReasonForm):
    full_name = forms.CharField(max_length=150, required=False)
    role = forms.ChoiceField(choices=User.Role.choices)
    is_active = forms.BooleanField(required=False, label="May sign in")
    field_order = ["full_name", "role", "is_active", "reason"]


class ChangeUser(Act[User]):
    name, label, permission = "edit", "Change", Permission.MANAGE_USERS
    warning = "Name, role, and whether they may sign in. It counts from their next click."

    def form(self, obj: User, data: Any) -> ChangeUserForm:
        fields = ("full_name", "role", "is_active")
        return ChangeUserForm(data, initial={name: getattr(obj, name) for name in fields})

    def run(self, obj: User, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.change_user(
            tenant_id=obj.tenant_id,
            user_id=obj.pk,
            changes={name: cleaned[name] for name in ("full_name", "role", "is_active")},
            by_user_id=request.user.pk,
            may_change_superusers=sees_every_tenant(request),
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The user is changed.")


class SetPassword(Act[User]):
    name, label, permission = "password", "Set password", Permission.MANAGE_USERS
    warning = "Ends every session of this person."

    def form(self, obj: User, data: Any) -> "SetPasswordForm[User]":
        return SetPasswordForm(obj, data)

    @sensitive_variables()
    def run(self, obj: User, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        user = services.set_password(
            tenant_id=obj.tenant_id,
            user_id=obj.pk,
            password=cleaned["new_password1"],
            may_change_superusers=sees_every_tenant(request),
            now=timezone.now(),
        )
        if user.pk == request.user.pk:
            update_session_auth_hash(request, user)
        return Done("The password is set.")


class ResetSecondFactor(Act[User]):
    name, label, permission = "second-factor", "Reset second factor", Permission.MANAGE_USERS
    warning = (
        "For somebody who has lost the device. Until a new one is set up they sign in with the"
        " password alone, or where a second factor is required, not at all but to set it up."
    )
    is_dangerous = True

    def is_offered(self, obj: User) -> bool:
        return services.has_second_factor(obj)

    def run(self, obj: User, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.reset_second_factor(
            tenant_id=obj.tenant_id,
            user_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The second factor is reset.")


@admin.register(User)
class UserAdmin(BackOfficeAdmin[User]):
    list_display = ("email", "full_name", "role", "may_sign_in", "since")
    list_filter = ("role", "is_active", TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id or e-mail address."
    acts = (ChangeUser(), SetPassword(), ResetSecondFactor())
    view_permission = Permission.VIEW_USERS
    add_permission = Permission.MANAGE_USERS

    def may_act_on(self, request: HttpRequest, obj: User) -> bool:
        # Whoever could set a superuser's password would be one.
        return sees_every_tenant(request) or not obj.is_superuser

    def search(self, queryset: QuerySet[User], text: str, found_id: UUID | None) -> QuerySet[User]:
        if found_id is not None:
            return queryset.filter(pk=found_id)
        return queryset.filter(email=text.lower())

    @admin.display(description="May sign in", boolean=True)
    def may_sign_in(self, obj: User) -> bool:
        return obj.is_active

    @admin.display(description="Since")
    def since(self, obj: User) -> str:
        return f"{obj.created_at:%Y-%m-%d}"

    def heading(self, obj: User) -> str:
        return obj.email

    def status(self, obj: User) -> SafeString:
        return badge("active") if obj.is_active else badge("closed", "May not sign in")

    def facts(self, obj: User) -> list[tuple[str, Any]]:
        return [
            ("Id", obj.pk),
            ("Name", obj.full_name),
            ("Role", obj.get_role_display()),
            ("Superuser", "Yes: sees every tenant" if obj.is_superuser else ""),
            ("Tenant", obj.tenant),
            ("Since", obj.created_at),
            ("Last signed in", obj.last_login),
            ("Second factor", "set up" if services.has_second_factor(obj) else "none"),
        ]

    def new_form(self, request: HttpRequest, data: Any) -> NewUserForm:
        return NewUserForm(data, request=request)

    @sensitive_variables()
    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> User:
        return services.create_user(
            tenant_id=cleaned["tenant_id"],
            email=cleaned["email"],
            password=cleaned["password1"],
            role=cleaned["role"],
            full_name=cleaned["full_name"],
            now=timezone.now(),
        )


# --- API keys ----------------------------------------------------------------------------------
class NewApiKeyForm(_OfTenantForm):
    name = forms.CharField(max_length=100, help_text="What will use it.")
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        help_text="Admin implies the others.",
    )
    mode = forms.ChoiceField(choices=ApiKey.Mode.choices, initial=ApiKey.Mode.TEST)
    expires_at = forms.DateTimeField(
        required=False,
        label="Expires, in UTC",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="Leave it empty for a key that does not expire.",
    )

    rate_limit = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=services.RATE_LIMIT_MAX,
        label="Requests a minute",
        help_text="Leave it empty for as many as everybody.",
    )

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError("A key expires in the future.")
        return expires_at


class RotateForm(ReasonForm):
    overlap_seconds = forms.IntegerField(
        min_value=0,
        max_value=services.OVERLAP_MAX_S,
        initial=0,
        label="The old secret is good for, in seconds",
        help_text="0: it is dead at once.",
    )


class Rotate(Act[ApiKey]):
    name, label, permission = "rotate", "Rotate", Permission.MANAGE_API_KEYS
    warning = "Makes a new secret, which is shown once."

    def is_offered(self, obj: ApiKey) -> bool:
        return obj.revoked_at is None and not obj.is_expired(timezone.now())

    def form(self, obj: ApiKey, data: Any) -> RotateForm:
        return RotateForm(data, initial={"overlap_seconds": 0})

    @sensitive_variables()
    def run(self, obj: ApiKey, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        issued = services.rotate_api_key(
            tenant_id=obj.tenant_id,
            api_key_id=obj.pk,
            overlap_s=cleaned["overlap_seconds"],
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The key is rotated.", page=_key_shown(request, issued))


class Revoke(Act[ApiKey]):
    name, label, permission = "revoke", "Revoke", Permission.MANAGE_API_KEYS
    warning = "Whatever uses the key is refused at once. A revoked key never works again."
    is_dangerous = True

    def is_offered(self, obj: ApiKey) -> bool:
        return obj.revoked_at is None

    def run(self, obj: ApiKey, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.revoke_api_key(
            tenant_id=obj.tenant_id,
            api_key_id=obj.pk,
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done("The key is revoked.")


@admin.register(ApiKey)
class ApiKeyAdmin(BackOfficeAdmin[ApiKey]):
    list_display = ("key", "status_badge", "scopes_label", "mode", "expires")
    list_filter = ("mode", TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, or the public part of a key."
    acts = (Rotate(), Revoke())
    view_permission = Permission.VIEW_API_KEYS
    add_permission = Permission.MANAGE_API_KEYS

    def search(
        self, queryset: QuerySet[ApiKey], text: str, found_id: UUID | None
    ) -> QuerySet[ApiKey]:
        if found_id is not None:
            return queryset.filter(pk=found_id)
        return queryset.filter(public_id=text)

    @admin.display(description="Key")
    def key(self, obj: ApiKey) -> SafeString:
        return format_html("{}<small>florin_{}_{}_…</small>", obj.name, obj.mode, obj.public_id)

    @admin.display(description="Status")
    def status_badge(self, obj: ApiKey) -> SafeString:
        return self.status(obj)

    @admin.display(description="Scopes")
    def scopes_label(self, obj: ApiKey) -> str:
        return ", ".join(obj.scopes)

    @admin.display(description="Expires", empty_value="never")
    def expires(self, obj: ApiKey) -> str | None:
        return minute(obj.expires_at) or None

    def status(self, obj: ApiKey) -> SafeString:
        if obj.revoked_at is not None:
            return badge("revoked")
        return badge("expired" if obj.is_expired(timezone.now()) else "active")

    def facts(self, obj: ApiKey) -> list[tuple[str, Any]]:
        return [
            ("Id", obj.pk),
            ("Begins with", f"florin_{obj.mode}_{obj.public_id}_"),
            ("Scopes", ", ".join(obj.scopes)),
            ("Tenant", obj.tenant),
            ("Requests a minute", obj.rate_limit or ""),
            ("Created", obj.created_at),
            ("Rotated", obj.rotated_at),
            ("Last used", obj.last_used_at),
            ("Last refused", obj.last_refused_at),
            ("Expires", obj.expires_at),
            ("Revoked", obj.revoked_at),
        ]

    def new_form(self, request: HttpRequest, data: Any) -> NewApiKeyForm:
        return NewApiKeyForm(data, request=request)

    @sensitive_variables()
    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> HttpResponse:
        with transaction.atomic():
            issued = services.create_api_key(
                tenant_id=cleaned["tenant_id"],
                name=cleaned["name"],
                scopes=cleaned["scopes"],
                mode=cleaned["mode"],
                expires_at=cleaned["expires_at"],
                rate_limit=cleaned["rate_limit"],
                now=timezone.now(),
            )
            self.log_addition(request, issued.api_key, "Added.")
        return _key_shown(request, issued)


def _key_shown(request: HttpRequest, issued: services.IssuedKey) -> HttpResponse:
    """Show a key this once. The answer itself does: a redirect would keep it in a session."""
    context = {
        **admin.site.each_context(request),
        "title": "The new API key",
        "opts": ApiKey._meta,
        "list_url": reverse("admin:identity_apikey_changelist"),
        "api_key": issued.api_key,
        "clear": issued.clear,
        "url": page_url(ApiKey, issued.api_key.pk),
    }
    response = TemplateResponse(request, "admin/api_key_shown.html", context)
    response["Cache-Control"] = "no-store"
    return response


# --- The audit trail ---------------------------------------------------------------------------
@admin.register(AuditRecord)
class AuditRecordAdmin(BackOfficeAdmin[AuditRecord]):
    list_display = ("what", "made_by", "address", "when")
    search_fields = ("pk",)
    search_help_text = "The whole id of an object, or of a request."
    view_permission = Permission.VIEW_AUDIT

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditRecord]:
        # Ten thousand ids are for the page, not for the list.
        return super().get_queryset(request).defer("object_ids", "before", "after")

    def search(
        self, queryset: QuerySet[AuditRecord], text: str, found_id: UUID | None
    ) -> QuerySet[AuditRecord]:
        # A request's id may look like an object's: it is ours, unless the caller gave one.
        if found_id is not None and queryset.filter(object_id=found_id).exists():
            return queryset.filter(object_id=found_id)
        return queryset.filter(request_id=text)

    @admin.display(description="What")
    def what(self, obj: AuditRecord) -> SafeString:
        return format_html("{}<small>{}</small>", obj.action, obj.object_id or "")

    @admin.display(description="By")
    def made_by(self, obj: AuditRecord) -> str:
        return obj.actor_id

    @admin.display(description="When")
    def when(self, obj: AuditRecord) -> str:
        return minute(obj.created_at)

    def heading(self, obj: AuditRecord) -> str:
        return obj.action

    def facts(self, obj: AuditRecord) -> list[tuple[str, Any]]:
        return [
            ("Number", obj.pk),
            ("Object", obj.object_id),
            ("Objects", f"{len(obj.object_ids):,} at once" if obj.object_ids else ""),
            ("By", obj.actor_id),
            ("When", obj.created_at),
            ("Reason", obj.reason),
            ("Before", _fields(obj.before)),
            ("After", _fields(obj.after)),
            ("Request", obj.request_id),
            ("Address", obj.address),
        ]


def _fields(changed: dict[str, Any] | None) -> SafeString | str:
    shown = {name: "" if value is None else str(value) for name, value in (changed or {}).items()}
    return metadata_lines(shown) if shown else ""


# --- The door ----------------------------------------------------------------------------------
class SignInForm(AdminAuthenticationForm):
    """Signs in by the same service as the API: attempts are counted together."""

    otp = forms.CharField(
        required=False,
        max_length=services.CODE_LENGTH_MAX,
        label="One-time code",
        help_text="If you have set up a second factor.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if self.request is None or not cleaned.get("username") or not cleaned.get("password"):
            return cleaned
        try:
            user = services.authenticated_user(
                email=cleaned["username"],
                password=cleaned["password"],
                otp=cleaned.get("otp") or None,
                address=client_address(self.request),
                now=timezone.now(),
            )
        except DomainError as refusal:
            raise ValidationError(refusal.detail, code=refusal.code) from refusal
        self.confirm_login_allowed(user)
        user.backend = "django.contrib.auth.backends.ModelBackend"
        self.user_cache = user
        return cleaned


class OwnPasswordForm(PasswordChangeForm):
    @sensitive_variables()
    def save(self, commit: bool = True) -> User:
        user = services.set_password(
            tenant_id=self.user.tenant_id,
            user_id=self.user.pk,
            password=self.cleaned_data["new_password1"],
            may_change_superusers=True,
            now=timezone.now(),
        )
        # What the view signs the session with.
        self.user.password = user.password
        return user


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=services.CODE_LENGTH_MAX,
        label="Code that the app shows",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )


def second_factor(request: HttpRequest) -> HttpResponse:
    """Where staff set up their second factor; for those who are signed in and have none."""
    user = request.user
    if not (user.is_authenticated and user.is_staff):
        return redirect_to_login(request.path, reverse("admin:login"))
    context = {**admin.site.each_context(request), "title": "Second factor"}
    if services.has_second_factor(user):
        if not is_staff(request):
            return redirect_to_login(request.path, reverse("admin:login"))
        return TemplateResponse(request, "admin/second_factor.html", {**context, "is_set": True})
    form = CodeForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            confirmed = services.confirm_enrolment(
                user=user, code=form.cleaned_data["code"], now=timezone.now()
            )
        except DomainError as refusal:
            form.add_error(None, refusal.detail)
        else:
            django_otp.login(request, confirmed.device)
            context["recovery_codes"] = confirmed.recovery_codes
            response = TemplateResponse(request, "admin/second_factor.html", context)
            response["Cache-Control"] = "no-store"
            return response
    enrolment = services.begin_enrolment(user=user, is_going_on=request.method == "POST")
    qr = segno.make(enrolment.url, error="m").svg_data_uri(scale=5)
    context |= {"form": form, "secret": enrolment.secret, "qr": qr}
    return TemplateResponse(request, "admin/second_factor.html", context)


@receiver([user_logged_in, user_logged_out])
def _record_session(signal: Signal, user: User | None, **_: Any) -> None:
    """Of the back office's sessions; those of the API are recorded where they are made."""
    if user is not None:
        services.record_back_office_session(
            user=user, has_begun=signal is user_logged_in, now=timezone.now()
        )


admin.site.login_form = SignInForm
admin.site.password_form = OwnPasswordForm  # type: ignore[attr-defined]
admin.site.add_page("second-factor/", second_factor, "second_factor")  # type: ignore[attr-defined]
