from django_filters import CharFilter, ChoiceFilter, UUIDFilter

from accounts.models import Account
from core.api.filters import StrictFilterSet


class AccountFilter(StrictFilterSet):
    owner_id = UUIDFilter()
    type = ChoiceFilter(choices=Account.Type.choices)
    status = ChoiceFilter(choices=Account.Status.choices)
    currency = CharFilter(max_length=3)
    external_id = CharFilter(max_length=200)
    role = ChoiceFilter(choices=Account.Role.choices)

    class Meta:
        model = Account
        fields: list[str] = []
