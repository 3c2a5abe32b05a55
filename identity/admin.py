"""Tenants, people and keys in the back office."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import SetPasswordForm, SetPasswordMixin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
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
    Right,
    TenantFilter,
    badge,
    minute,
    page_url,
    right_of,
    staff_tenant_id,
)
from core.errors import InvalidState
from identity import services
from identity.models import ApiKey, Tenant, User


class _OfTenantForm(forms.Form):
    """Asks for the tenant those who see more than one; for the others it is their own."""

    def __init__(self, data: Any, *, request: HttpRequest) -> None:
        super().__init__(data)
        self._own_tenant_id = staff_tenant_id(request)
        if right_of(request) >= Right.OWN:
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
    add_right = Right.OWN

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
    name, label, right = "edit", "Change", Right.ADMINISTER
    warning = "Name, role, and whether they may sign in. It counts from their next click."

    def form(self, obj: User, data: Any) -> ChangeUserForm:
        fields = ("full_name", "role", "is_active")
        return ChangeUserForm(data, initial={name: getattr(obj, name) for name in fields})

    def run(self, obj: User, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        is_own = obj.pk == request.user.pk
        if is_own and (cleaned["role"] != obj.role or not cleaned["is_active"]):
            raise InvalidState("Nobody changes their own role or locks themselves out.")
        services.change_user(
            tenant_id=obj.tenant_id,
            user_id=obj.pk,
            full_name=cleaned["full_name"],
            role=cleaned["role"],
            is_active=cleaned["is_active"],
            now=timezone.now(),
        )
        return Done("The user is changed.")


class SetPassword(Act[User]):
    name, label, right = "password", "Set password", Right.ADMINISTER
    warning = "Ends every session of this person."

    def form(self, obj: User, data: Any) -> "SetPasswordForm[User]":
        return SetPasswordForm(obj, data)

    @sensitive_variables()
    def run(self, obj: User, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        user = services.set_password(
            tenant_id=obj.tenant_id,
            user_id=obj.pk,
            password=cleaned["new_password1"],
            now=timezone.now(),
        )
        if user.pk == request.user.pk:
            update_session_auth_hash(request, user)
        return Done("The password is set.")


@admin.register(User)
class UserAdmin(BackOfficeAdmin[User]):
    list_display = ("email", "full_name", "role", "may_sign_in", "since")
    list_filter = ("role", "is_active", TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id or e-mail address."
    acts = (ChangeUser(), SetPassword())
    add_right = Right.ADMINISTER

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Auditors see everything; operators and supervisors have no business with people.
        return right_of(request) in (Right.LOOK, Right.ADMINISTER, Right.OWN)

    def may_act_on(self, request: HttpRequest, obj: User) -> bool:
        # Whoever could set a superuser's password would be one.
        is_above = obj.is_superuser and right_of(request) < Right.OWN
        return not is_above

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

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError("A key expires in the future.")
        return expires_at


class Revoke(Act[ApiKey]):
    name, label, right = "revoke", "Revoke", Right.ADMINISTER
    warning = "Whatever uses the key is refused within seconds. A revoked key never works again."
    is_dangerous = True

    def is_offered(self, obj: ApiKey) -> bool:
        return obj.revoked_at is None

    def run(self, obj: ApiKey, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        services.revoke_api_key(tenant_id=obj.tenant_id, api_key_id=obj.pk, now=timezone.now())
        return Done("The key is revoked.")


@admin.register(ApiKey)
class ApiKeyAdmin(BackOfficeAdmin[ApiKey]):
    list_display = ("key", "status_badge", "scopes_label", "mode", "expires")
    list_filter = ("mode", TenantFilter)
    search_fields = ("pk",)
    search_help_text = "A whole id, or the public part of a key."
    acts = (Revoke(),)
    add_right = Right.ADMINISTER

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return right_of(request) in (Right.LOOK, Right.ADMINISTER, Right.OWN)

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
            ("Created", obj.created_at),
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
                now=timezone.now(),
            )
            self.log_addition(request, issued.api_key, "Added.")
        # The answer itself shows the key: kept for a redirect, it would lie in a session or a
        # cookie.
        context = {
            **self._context(request, "The new API key"),
            "api_key": issued.api_key,
            "clear": issued.clear,
            "url": page_url(ApiKey, issued.api_key.pk),
        }
        response = TemplateResponse(request, "admin/api_key_shown.html", context)
        response["Cache-Control"] = "no-store"
        return response
