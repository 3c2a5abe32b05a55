"""
The back office's manners: look at everything, write nothing except through a service.

Who may do what, how lists are paged, and what an object's page consists of. docs/back-office.md
has the rules in a table.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

import django_otp
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, transaction
from django.db.models import Model, QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.views.decorators.cache import never_cache

from core.database import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, sqlstate_of
from core.errors import DomainError, InvalidRequest
from core.keyset import keyset_page
from core.money import EXPONENTS, format_money
from core.permissions import Permission, role_allows

PAGE_ROWS = 50
CURSOR_VAR = "cursor"
TENANTS_LISTED_MAX = 50
REASON_LENGTH_MAX = 500

M = TypeVar("M", bound=Model)


# --- Who may do what ---------------------------------------------------------------------------
def may(request: HttpRequest, permission: Permission) -> bool:
    """Say what the caller may do, by role alone: Django's own permissions play no part."""
    user = request.user
    if not is_staff(request) or isinstance(user, AnonymousUser):
        return False
    return user.is_superuser or role_allows(user.role, permission)


def sees_every_tenant(request: HttpRequest) -> bool:
    return is_staff(request) and request.user.is_superuser


def is_staff(request: HttpRequest) -> bool:
    """Say whether the caller belongs in here, and has shown their second factor if they must."""
    user = request.user
    if isinstance(user, AnonymousUser) or not (user.is_active and user.is_staff):
        return False
    return not lacks_second_factor(request)


def lacks_second_factor(request: HttpRequest) -> bool:
    """Say whether a one-time code is still to be given: by those who have a device, or by all."""
    # django_otp.middleware adds is_verified; the session remembers the device.
    if request.user.is_verified():  # type: ignore[union-attr]
        return False
    return settings.STAFF_SECOND_FACTOR_REQUIRED or _has_device(request)


def _has_device(request: HttpRequest) -> bool:
    # A page asks dozens of times what its caller may do.
    if not hasattr(request, "_has_device"):
        has_device = bool(django_otp.user_has_device(request.user))
        request._has_device = has_device  # type: ignore[attr-defined]
    return bool(request._has_device)  # type: ignore[attr-defined]


def staff_tenant_id(request: HttpRequest) -> UUID:
    """Return the tenant of the signed-in person."""
    if isinstance(request.user, AnonymousUser):
        raise PermissionDenied
    return request.user.tenant_id


class FlorinAdminSite(admin.AdminSite):
    site_header = "Florin"
    site_title = "Florin"
    index_title = "Back office"
    site_url = None
    login_template = "admin/sign_in.html"
    # Of a person's own password; `identity` puts the one here that calls its service.
    password_form: type[forms.Form]

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        # Nothing here is deleted by ticking boxes.
        self.disable_action("delete_selected")
        self._pages: list[URLPattern] = []

    def add_page(self, route: str, view: Callable[..., HttpResponse], name: str) -> None:
        """Serve a page that is nobody's object; it keeps its own door."""
        self._pages.append(path(route, never_cache(view), name=name))

    def get_urls(self) -> list[Any]:
        return [*self._pages, *super().get_urls()]

    def has_permission(self, request: HttpRequest) -> bool:
        return is_staff(request)

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        view = PasswordChangeView.as_view(
            form_class=self.password_form,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            template_name="registration/password_change_form.html",
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        user = request.user
        is_half_in = user.is_authenticated and user.is_staff and not is_staff(request)
        if is_half_in and not _has_device(request):
            # The way on is to set up a second factor.
            return HttpResponseRedirect(reverse("admin:second_factor"))
        return super().login(request, extra_context)

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Register ours only: the admins that packages bring write rows past every service."""
        if admin_class is not None and issubclass(admin_class, BackOfficeAdmin):
            super().register(model_or_iterable, admin_class, **options)


# --- How things look ---------------------------------------------------------------------------
# Status → colour of its badge; the word itself always stands there too.
_TONES = {
    **dict.fromkeys(("active", "captured", "deposited", "settled", "succeeded"), "ok"),
    **dict.fromkeys(("fully_paid", "sent"), "ok"),
    **dict.fromkeys(("frozen", "expired", "unknown", "paid", "refunding"), "warn"),
    **dict.fromkeys(("returned", "waiting", "open", "partially_paid", "queued"), "warn"),
    **dict.fromkeys(("paused", "retrying", "requested", "stopped"), "warn"),
    **dict.fromkeys(("completed", "unlocked", "approved"), "ok"),
    **dict.fromkeys(("revoked", "deposit_pending", "failed", "reversed", "overdue"), "bad"),
    **dict.fromkeys(("on_time", "recovered", "replayed"), "ok"),
    **dict.fromkeys(("stuck", "late", "lost", "dead"), "bad"),
}


def badge(status: str, label: str = "") -> SafeString:
    tone = _TONES.get(status, "quiet")
    return format_html('<span class="badge {}">{}</span>', tone, label or capfirst(status))


def money(minor_units: int | None, currency: str) -> SafeString:
    """Return the amount as it stands in a table; None: there is no limit."""
    text = "no limit" if minor_units is None else format_money(minor_units, currency)
    return format_html('<span class="money">{}</span>', text)


def minute(moment: dt.datetime | None) -> str:
    """Return the moment as lists show it, in UTC."""
    return "" if moment is None else f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"


def in_words(code: str) -> str:
    """Return a code such as `partially_paid` as a person would write it."""
    return capfirst(code.replace("_", " "))


def link_to(model: type[Model] | str, pk: Any, text: str = "") -> SafeString:
    """Return a link to the object's page; of a model that is not to be imported, by its label."""
    return format_html('<a href="{}">{}</a>', page_url(model, pk), text or str(pk))


def page_url(model: type[Model] | str, pk: Any) -> str:
    label = model if isinstance(model, str) else model._meta.label
    return reverse(f"admin:{label.lower().replace('.', '_')}_change", args=[pk])


def name_of(obj: Any) -> str:
    """Return what a person calls the object: its name, else the id that they gave it."""
    return getattr(obj, "name", "") or getattr(obj, "external_id", "") or str(obj)


def metadata_lines(metadata: dict[str, Any]) -> SafeString:
    return format_html_join("", "<div><code>{}</code> {}</div>", sorted(metadata.items()))


# --- Lists by keyset ---------------------------------------------------------------------------
class KeysetChangeList(ChangeList):
    """Newest first, by id, which is in order of time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(capfirst(self.opts.verbose_name_plural))

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        # A search that holds one finds nothing; a filter would ask PostgreSQL, which refuses it.
        if any("\x00" in value for name, value in request.GET.items() if name != SEARCH_VAR):
            raise IncorrectLookupParameters("There is no such character.")
        # A cursor belongs to one list: filters and searches that start another leave it behind.
        self.params.pop(CURSOR_VAR, None)
        self.filter_params.pop(CURSOR_VAR, None)
        return super().get_queryset(request, exclude_parameters)

    def get_results(self, request: HttpRequest) -> None:
        try:
            page = keyset_page(
                self.queryset,
                key="pk",
                limit=PAGE_ROWS,
                cursor=request.GET.get(CURSOR_VAR),
                of=f"back-office:{self.opts.label}",
            )
        except InvalidRequest as refusal:
            raise IncorrectLookupParameters(refusal.detail) from refusal
        self.result_list = page.rows
        self.next_query = page.next and self.get_query_string({CURSOR_VAR: page.next})
        self.previous_query = page.previous and self.get_query_string({CURSOR_VAR: page.previous})
        # What Django's templates ask for. Of this page: nobody has counted the rest.
        self.result_count = self.full_result_count = len(page.rows)
        self.show_full_result_count = self.show_admin_actions = False
        self.can_show_all = self.multi_page = False


class TenantFilter(admin.SimpleListFilter):
    """For those who see more than one tenant."""

    title = "tenant"
    parameter_name = "tenant"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        if not sees_every_tenant(request):
            return []
        tenant = model_admin.model._meta.get_field("tenant").related_model
        listed = tenant._default_manager.order_by("name")[:TENANTS_LISTED_MAX]
        return [(str(each.pk), str(each)) for each in listed]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        try:
            return queryset.filter(tenant_id=UUID(value))
        except ValueError as error:
            raise IncorrectLookupParameters from error


class CurrencyFilter(admin.SimpleListFilter):
    """A field to type into: which currencies occur would take a walk over the table."""

    title = "currency"
    parameter_name = "currency"
    template = "admin/typed_filter.html"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [(code, code) for code in sorted(EXPONENTS)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(currency=value.upper()) if value else queryset

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        kept = {name: value for name, value in changelist.params.items() if name != "currency"}
        yield {"name": self.parameter_name, "value": self.value() or "", "kept": kept}


class AttentionFilter(admin.SimpleListFilter):
    """The queue of what a person should look at."""

    title = "attention"
    parameter_name = "attention"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [("needed", "Needs a person")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.exclude(attention="") if self.value() == "needed" else queryset


class StandingFilter(admin.SimpleListFilter):
    """A filter that hides what is over and done with, until one asks; a search looks at all."""

    standing_label: str

    def standing(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return what is listed unless one asks for others."""
        raise NotImplementedError

    def others(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        raise NotImplementedError

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        standing, *others = super().choices(changelist)
        yield {**standing, "display": self.standing_label}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all" or request.GET.get(SEARCH_VAR):
            return queryset
        return self.standing(queryset) if self.value() is None else self.others(queryset)


# --- Pages of one object -----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Done:
    """What an act came to: a sentence, and where to look next; by default where it began."""

    sentence: str
    url: str | None = None
    is_replay: bool = False
    # A page to answer with instead, for what is shown once.
    page: HttpResponse | None = None


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=REASON_LENGTH_MAX,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept with the change.",
    )


class OfTenantForm(forms.Form):
    """Asks for the tenant those who see more than one; for the others it is their own."""

    def __init__(self, data: Any, *, request: HttpRequest, files: Any = None, **more: Any) -> None:
        super().__init__(data, files, **more)
        self._own_tenant_id = staff_tenant_id(request)
        if sees_every_tenant(request):
            tenant = get_user_model()._meta.get_field("tenant").related_model
            self.fields["tenant"] = forms.ModelChoiceField(
                tenant._default_manager.order_by("name"), initial=self._own_tenant_id
            )
            self.order_fields(["tenant"])

    @property
    def tenant_id(self) -> UUID:
        chosen = self.cleaned_data.get("tenant")
        return chosen.pk if chosen else self._own_tenant_id

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        cleaned["tenant_id"] = self.tenant_id
        return cleaned


class Act(Generic[M]):
    """A button on an object's page: a page with a form, then one call of a service."""

    name: ClassVar[str]
    label: ClassVar[str]
    # What will happen, in one sentence.
    warning: ClassVar[str]
    permission: ClassVar[Permission]
    # Postings commit by themselves: inside a transaction of ours they could not be repeated when
    # a twin was first.
    is_posting: ClassVar[bool] = False
    is_dangerous: ClassVar[bool] = False

    def is_offered(self, obj: M) -> bool:
        """Whether to show the button. The service refuses in any case."""
        return True

    def form(self, obj: M, data: Any) -> BaseForm:
        return ReasonForm(data)

    def run(self, obj: M, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        """Call the service. A DomainError becomes a sentence on the form."""
        raise NotImplementedError


Panel = Callable[[HttpRequest, Any], str]
_panels: dict[type[Model], list[Panel]] = {}


def panel_on(model: type[Model]) -> Callable[[Panel], Panel]:
    """Show what the function returns on the pages of the model; so a higher app adds to a lower."""

    def register(panel: Panel) -> Panel:
        _panels.setdefault(model, []).append(panel)
        return panel

    return register


class BackOfficeAdmin(admin.ModelAdmin[M]):
    """Lists and pages that only show, scoped to the caller's tenant; acts that call services."""

    actions = None
    list_per_page = PAGE_ROWS
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    change_list_template = "admin/keyset_list.html"

    acts: ClassVar[Sequence[Act[Any]]] = ()
    view_permission: ClassVar[Permission]
    add_permission: ClassVar[Permission | None] = None
    # What adding one will do, in a sentence.
    add_warning: ClassVar[str] = ""
    tenant_lookup: ClassVar[str] = "tenant_id"
    # Query parameters that links of ours carry, beyond the filters'.
    link_lookups: ClassVar[frozenset[str]] = frozenset()

    # What a page shows.
    def heading(self, obj: M) -> str:
        return name_of(obj)

    def status(self, obj: M) -> str:
        """Return the badge beside the heading."""
        return ""

    def figures(self, obj: M) -> list[tuple[str, str]]:
        """Return the few numbers that one comes for."""
        return []

    def facts(self, obj: M) -> list[tuple[str, Any]]:
        """Return all else, as label and value; empty values are left out."""
        return []

    def offered_acts(self, request: HttpRequest, obj: M) -> list[Act[Any]]:
        return [act for act in self.acts if may(request, act.permission) and act.is_offered(obj)]

    # What may be added.
    def new_form(self, request: HttpRequest, data: Any) -> forms.Form:
        raise NotImplementedError

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> M | HttpResponse:
        """Call the service that makes a new one; return it, or a page of its own."""
        raise NotImplementedError

    # Who sees what.
    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        queryset = super().get_queryset(request)
        if sees_every_tenant(request):
            return queryset
        return queryset.filter(**{self.tenant_lookup: staff_tenant_id(request)})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, self.view_permission)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.add_permission is not None and may(request, self.add_permission)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # Lists.
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns = list(super().get_list_display(request))
        is_of_a_tenant = "tenant" in {field.name for field in self.opts.fields}
        return [*columns, "tenant"] if sees_every_tenant(request) and is_of_a_tenant else columns

    def get_list_select_related(self, request: HttpRequest) -> list[str]:
        joined = self.list_select_related
        named = list(joined) if not isinstance(joined, bool) else []
        return [*named, "tenant"] if "tenant" in self.get_list_display(request) else named

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only what the filters offer: `?name__icontains=` would read the whole table."""
        named = {f"{each}__exact" for each in self.list_filter if isinstance(each, str)}
        own = {
            each.parameter_name
            for each in self.list_filter
            if isinstance(each, type) and issubclass(each, admin.SimpleListFilter)
        }
        return lookup in named | own | self.link_lookups

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[M], search_term: str
    ) -> tuple[QuerySet[M], bool]:
        """Find by whole identifiers, each an index look-up; never by parts of words."""
        text = search_term.strip()
        if not text or "\x00" in text:
            return queryset, False
        return self.search(queryset, text, as_id(text)), False

    def search(self, queryset: QuerySet[M], text: str, found_id: UUID | None) -> QuerySet[M]:
        return queryset.filter(pk=found_id) if found_id is not None else queryset.none()

    # Views.
    def get_urls(self) -> list[URLPattern]:
        meta = self.opts
        own = [
            path(
                f"<path:object_id>/{act.name}/",
                self.admin_site.admin_view(self._act_view(act)),
                name=f"{meta.app_label}_{meta.model_name}_{act.name}",
            )
            for act in self.acts
        ]
        return own + super().get_urls()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        obj = self._visible(request, object_id)
        if obj is None:
            return self._missing(request)
        context = {
            **self._context(request, self.heading(obj)),
            "object": obj,
            "status": self.status(obj),
            "figures": self.figures(obj),
            "facts": [
                (label, value) for label, value in self.facts(obj) if value not in ("", None)
            ],
            "acts": [(act, self._act_url(act, obj)) for act in self.offered_acts(request, obj)],
            "panels": [panel(request, obj) for panel in _panels.get(self.model, [])],
        }
        return TemplateResponse(request, "admin/object_page.html", context)

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.new_form(request, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            with _saying_refusals(form):
                made = self.make(request, form.cleaned_data)
                if isinstance(made, HttpResponse):
                    return made
                self.log_addition(request, made, "Added.")
                self.message_user(request, f"Added: {made}.", messages.SUCCESS)
                return HttpResponseRedirect(page_url(self.model, made.pk))
        context = {
            **self._context(request, f"Add {self.opts.verbose_name}"),
            "form": form,
            "act": {"warning": self.add_warning} if self.add_warning else None,
            "submit": "Add",
            "back": self._list_url(),
        }
        return TemplateResponse(request, "admin/form_page.html", context)

    def _act_view(self, act: Act[Any]) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            obj = self._visible(request, object_id)
            if obj is None:
                return self._missing(request)
            if not may(request, act.permission) or not self.may_act_on(request, obj):
                raise PermissionDenied
            form = act.form(obj, request.POST if request.method == "POST" else None)
            if request.method == "POST" and form.is_valid():
                with _saying_refusals(form):
                    done = self._run(act, obj, request, form)
                    if done.page is not None:
                        return done.page
                    self.message_user(request, done.sentence, messages.SUCCESS)
                    return HttpResponseRedirect(done.url or page_url(self.model, obj.pk))
            context = {
                **self._context(request, f"{act.label}: {self.heading(obj)}"),
                "object": obj,
                "heading": self.heading(obj),
                "figures": self.figures(obj),
                "act": act,
                "form": form,
                "submit": act.label,
                "back": page_url(self.model, obj.pk),
            }
            return TemplateResponse(request, "admin/form_page.html", context)

        return view

    def may_act_on(self, request: HttpRequest, obj: M) -> bool:
        """Whether the caller's permission reaches this object; its tenant is right already."""
        return True

    def _run(self, act: Act[Any], obj: M, request: HttpRequest, form: Any) -> Done:
        # The change and the line of who made it commit together.
        block = contextlib.nullcontext() if act.is_posting else transaction.atomic()
        with block:
            done = act.run(obj, request, form.cleaned_data)
            if not done.is_replay:
                reason = form.cleaned_data.get("reason", "")
                self.log_change(request, obj, f"{act.label}. {reason}".strip())
        return done

    def _visible(self, request: HttpRequest, object_id: str) -> M | None:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.get_object(request, unquote(object_id))

    def _missing(self, request: HttpRequest) -> HttpResponse:
        # Another tenant's object and one that never was are the same answer.
        self.message_user(request, f"There is no such {self.opts.verbose_name}.", messages.WARNING)
        return HttpResponseRedirect(self._list_url())

    def _list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def _act_url(self, act: Act[Any], obj: M) -> str:
        meta = self.opts
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_{act.name}", args=[obj.pk])

    def _context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "list_url": self._list_url(),
        }


def as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@contextlib.contextmanager
def _saying_refusals(form: BaseForm) -> Iterator[None]:
    """Put a refusal, or a lock that somebody else holds, on the form as a sentence."""
    try:
        yield
    except DomainError as refusal:
        form.add_error(None, refusal.detail)
    except OperationalError as error:
        if sqlstate_of(error) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED):
            raise
        form.add_error(
            None, "Somebody else is changing this right now. Nothing was done; try again."
        )
