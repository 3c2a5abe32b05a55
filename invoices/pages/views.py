"""
The payer's page: what is owed, and one way to begin to pay it.

Whoever has the address may see and pay: 256 random bits in it are the secret. There is no session
and no cookie, so that there is nothing a foreign page could ride on; hence no CSRF token.
"""

import contextlib
import functools
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
)
from django.shortcuts import render
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods

from core.api.limits import count_stranger
from core.errors import DomainError, NotFound, RateLimited, Unavailable
from core.limiting import count_request
from invoices.errors import InvoiceNotPayable, PaymentInProgress
from invoices.models import Installment, Invoice
from invoices.pages import presenting, words
from invoices.pages.forms import PayForm
from invoices.queries import invoice_by_token
from invoices.services import open_checkout, watch
from invoices.services.documents import render_invoice, render_receipt
from payments.errors import GatewayError
from payments.gateways.calling import waiting_slot

LANGUAGES = ("en", "id", "ms")
# Pages of gateways, to which a form of ours may lead.
_GATEWAY_PAGES = (
    "https://checkout.xendit.co",
    "https://checkout-staging.xendit.co",
    "https://app.midtrans.com",
    "https://app.sandbox.midtrans.com",
)
_TOKEN_LENGTH = 43
# Of one invoice, by whoever has its address.
DOCUMENTS_PER_MINUTE_MAX = 12
View = Callable[..., HttpResponse]


def _for_payers(view: View) -> View:
    """Wrap a payer's view: counted, in their language, kept by nobody, found by no engine."""

    @csrf_exempt
    @functools.wraps(view)
    def wrapped(request: HttpRequest, token: str) -> HttpResponse:
        language = _language(request, None)
        try:
            count_stranger(request)
            invoice, only = _found(token)
            language = _language(request, invoice)
            with translation.override(language):
                response = view(request, token, invoice, only)
        except RateLimited as refusal:
            with translation.override(language):
                response = _message(
                    request, 429, _("Too many requests"), _("Wait a moment, then load it again.")
                )
            response["Retry-After"] = str(refusal.retry_after_s)
        except (NotFound, Http404):
            with translation.override(language):
                response = _message(
                    request,
                    404,
                    _("Nothing here"),
                    _("This address is not valid. Please look at the link again."),
                )
        return _private(response, language)

    return wrapped


@sensitive_post_parameters()
@sensitive_variables()
@_for_payers
@require_http_methods(["GET", "HEAD", "POST"])
def page(
    request: HttpRequest, token: str, invoice: Invoice, only: Installment | None
) -> HttpResponse:
    seen = presenting.look(token, invoice, only)
    if request.method != "POST":
        return _shown(request, seen)
    form = PayForm(
        request.POST,
        gateways=presenting.gateways_of(invoice),
        today=timezone.now().date(),
    )
    if not seen.is_open:
        return _shown(request, seen, status=409)
    if not form.is_valid():
        return _shown(request, seen, form=form, status=422)
    try:
        with waiting_slot():
            opened = open_checkout(token=token, choice=form.choice, now=timezone.now())
    except InvoiceNotPayable:
        return _shown(request, presenting.look(token, *_found(token)), status=409)
    except PaymentInProgress:
        return _busy(request, token)
    except (Unavailable, GatewayError):
        fault = _("The payment service cannot be reached. Nothing was charged; try again.")
        return _shown(request, seen, form=form, fault=fault, status=503)
    except DomainError as refusal:
        return _shown(request, seen, form=form, fault=_refused(refusal), status=422)
    if opened.redirect_url:
        return HttpResponseRedirect(opened.redirect_url, status=303)
    after = presenting.look(token, *_found(token))
    if opened.payment.status == "failed":
        fault = str(words.failure(opened.payment.failure_code))
        return _shown(request, after, form=form, fault=fault, status=422)
    return HttpResponseRedirect(_own_address(request, token), status=303)


@_for_payers
@require_GET
def status(
    request: HttpRequest, token: str, invoice: Invoice, only: Installment | None
) -> HttpResponse:
    """What the page's script asks: whether it would look otherwise now."""
    seen = presenting.look(token, invoice, only)
    if seen.last is not None and (seen.is_under_way or seen.has_open_page):
        with contextlib.suppress(Unavailable), waiting_slot():
            watch(payment=seen.last, now=timezone.now())
        seen = presenting.look(token, *_found(token))
    return JsonResponse(
        {
            "status": seen.invoice.status,
            "amount_due": seen.invoice.amount_due,
            "version": seen.version,
            "is_final": not seen.is_open and not seen.is_under_way,
            "message": str(words.BADGES[seen.invoice.status]),
        }
    )


@_for_payers
@require_GET
def invoice_pdf(
    request: HttpRequest, token: str, invoice: Invoice, only: Installment | None
) -> HttpResponse:
    if invoice.number is None:
        raise Http404
    _refuse_too_many(invoice)
    return _pdf(render_invoice(invoice=invoice), f"{invoice.number}.pdf")


@_for_payers
@require_GET
def receipt_pdf(
    request: HttpRequest, token: str, invoice: Invoice, only: Installment | None
) -> HttpResponse:
    try:
        receipt_id = uuid.UUID(request.GET["id"]) if "id" in request.GET else None
    except ValueError:
        raise Http404 from None
    receipt = presenting.receipt_of(invoice, receipt_id)
    if receipt is None:
        raise Http404
    _refuse_too_many(invoice)
    return _pdf(render_receipt(receipt=receipt), f"{invoice.number}-receipt.pdf")


def _refuse_too_many(invoice: Invoice) -> None:
    """
    Count a document of the invoice: a thousand lines take seconds to draw.

    :raises RateLimited: too many in a minute
    """
    standing = count_request(who=f"documents:{invoice.pk}", limit=DOCUMENTS_PER_MINUTE_MAX)
    if standing is not None and not standing.is_allowed:
        raise RateLimited("Too many documents.", retry_after_s=standing.reset_s)


def _found(token: str) -> tuple[Invoice, Installment | None]:
    if len(token) != _TOKEN_LENGTH:
        raise NotFound("No such address.")
    return invoice_by_token(token=token)


def _shown(
    request: HttpRequest,
    seen: presenting.Seen,
    *,
    form: PayForm | None = None,
    fault: Any = "",
    status: int = 200,
) -> HttpResponse:
    language = translation.get_language()
    context = presenting.shown(seen, locale=language, now=timezone.now())
    if fault:
        context["failure"] = fault
    context |= {
        "form": form,
        "errors": [error for errors in form.errors.values() for error in errors] if form else [],
        "chosen": form.data.get("what", "") if form is not None else "",
        "language": language,
        "languages": LANGUAGES,
    }
    return render(request, "pay/page.html", context, status=status)


def _busy(request: HttpRequest, token: str) -> HttpResponse:
    return _message(
        request,
        409,
        _("Somebody is paying this right now"),
        _("Perhaps in another tab, or on another device. Nothing was charged here."),
        back=_own_address(request, token),
    )


def _message(
    request: HttpRequest, status: int, title: str, text: str, *, back: str = ""
) -> HttpResponse:
    context = {"title": title, "text": text, "back": back, "language": translation.get_language()}
    return render(request, "pay/message.html", context, status=status)


def _refused(refusal: DomainError) -> str:
    if refusal.code == "card_data_refused":
        return _("Only test cards are taken here. Nothing was charged.")
    return _("It cannot be paid this way. Nothing was charged.")


def _own_address(request: HttpRequest, token: str) -> str:
    language = request.GET.get("lang", "")
    return f"/pay/{token}" + (f"?lang={language}" if language in LANGUAGES else "")


def _language(request: HttpRequest, invoice: Invoice | None) -> str:
    """The payer's choice, else the invoice's language, else the browser's."""
    asked = request.GET.get("lang", "")
    if asked in LANGUAGES:
        return asked
    if invoice is not None and invoice.locale in LANGUAGES:
        return invoice.locale
    language = translation.get_language_from_request(request)
    return language if language in LANGUAGES else "en"


def _pdf(document: bytes, name: str) -> HttpResponse:
    response = HttpResponse(document, content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{name}"'
    return response


def _private(response: HttpResponse, language: str) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Content-Language"] = language
    response["Vary"] = "Accept-Language"
    response["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self';"
        f" connect-src 'self'; form-action 'self' {' '.join(_form_targets())};"
        " base-uri 'none'; frame-ancestors 'none'"
    )
    return response


def _form_targets() -> tuple[str, ...]:
    """Where a form of ours may end up: a browser holds the policy against redirects too."""
    own = [urlsplit(url) for url in settings.GATEWAY_URLS.values() if url]
    simulated = {f"{url.scheme}://{url.netloc}" for url in own}
    return (*_GATEWAY_PAGES, *sorted(simulated))
