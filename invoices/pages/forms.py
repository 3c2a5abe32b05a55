"""What a payer fills in."""

import datetime as dt
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from invoices.services import Choice
from payments.gateways.port import CardData

_SEPARATORS = re.compile(r"[ \-]")
_EXPIRY = re.compile(r"(\d{1,2})\s*/\s*(?:20)?(\d{2})")


class PayForm(forms.Form):
    """All that is due or an installment; a card's data, or the name of a gateway."""

    # Empty: all that is due.
    what = forms.IntegerField(required=False, min_value=1, max_value=60)
    # "card", or a gateway's name.
    how = forms.CharField(max_length=16)
    number = forms.CharField(required=False, max_length=32)
    expiry = forms.CharField(required=False, max_length=10)
    cvc = forms.CharField(required=False, max_length=6)

    def __init__(self, data: Any, *, gateways: list[str], today: dt.date) -> None:
        super().__init__(data)
        self._gateways, self._today = gateways, today

    @property
    def choice(self) -> Choice:
        """What was chosen, once the form is valid."""
        cleaned = self.cleaned_data
        is_card = cleaned["how"] == "card"
        card = CardData(**cleaned["card"]) if is_card else None
        return Choice(
            installment=cleaned["what"],
            card=card,
            gateway="sandbox" if is_card else cleaned["how"],
        )

    def clean_how(self) -> str:
        how = str(self.cleaned_data["how"])
        if how != "card" and how not in self._gateways:
            raise ValidationError(_("Choose how to pay."))
        return how

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = self.cleaned_data
        if cleaned.get("how") != "card":
            return cleaned
        number = _SEPARATORS.sub("", cleaned.get("number") or "")
        if not re.fullmatch(r"\d{12,19}", number):
            self.add_error("number", _("A card number has 12 to 19 digits."))
        expiry = _EXPIRY.fullmatch((cleaned.get("expiry") or "").strip())
        month, year = (int(expiry[1]), 2000 + int(expiry[2])) if expiry else (0, 0)
        if not 1 <= month <= 12:
            self.add_error("expiry", _("Month and year, such as 08/27."))
        elif (year, month) < (self._today.year, self._today.month):
            self.add_error("expiry", _("The card has expired."))
        cvc = (cleaned.get("cvc") or "").strip()
        if not re.fullmatch(r"\d{3,4}", cvc):
            self.add_error("cvc", _("The three or four digits on the card."))
        cleaned["card"] = {"number": number, "exp_month": month, "exp_year": year, "cvc": cvc}
        return cleaned
