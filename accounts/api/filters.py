from django_filters import ChoiceFilter, UUIDFilter

from accounts.models import Account
from core.api.filters import CurrencyFilter, StrictFilterSet, TextFilter


class AccountFilter(StrictFilterSet):
    owner_id = UUIDFilter()
    type = ChoiceFilter(choices=Account.Type.choices)
    status = ChoiceFilter(choices=Account.Status.choices)
    currency = CurrencyFilter()
    external_id = TextFilter(max_length=200)
    role = ChoiceFilter(choices=Account.Role.choices)

    class Meta:
        model = Account
        fields: list[str] = []
