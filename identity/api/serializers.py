"""Shapes of people, their tokens and API keys on the wire."""

from typing import Any

from rest_framework import serializers

from core.api.fields import StrictBooleanField, StrictIntegerField, TextField, UtcDateTimeField
from core.permissions import Role, Scope
from identity.models import ApiKey, User
from identity.services import (
    ADVANCE_MAX,
    CODE_LENGTH_MAX,
    OVERLAP_MAX_S,
    RATE_LIMIT_MAX,
    REFRESH_LENGTH_MAX,
)

PASSWORD_LENGTH_MAX = 256


class EmailField(serializers.EmailField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data)).lower()


class SecretField(TextField):
    """A password or token: as it is, blanks and all."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, write_only=True, **kwargs)


class SignInRequest(serializers.Serializer[Any]):
    email = EmailField(max_length=254)
    password = SecretField(max_length=PASSWORD_LENGTH_MAX)
    otp = TextField(
        required=False,
        allow_null=True,
        max_length=CODE_LENGTH_MAX,
        default=None,
        help_text="The one-time code, or a recovery code, of those who have a second factor.",
    )


class RefreshRequest(serializers.Serializer[Any]):
    refresh = SecretField(max_length=REFRESH_LENGTH_MAX)


class TokensResponse(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="For the Authorization header.")
    refresh = serializers.CharField(help_text="Good once, for the next two tokens.")
    token_type = serializers.ChoiceField(choices=["Bearer"])
    expires_in = serializers.IntegerField(help_text="Seconds that `access` is good for.")


class MeResponse(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=["user", "api_key"])
    id = serializers.UUIDField(help_text="Of the user or key.")
    name = serializers.CharField(help_text="The key's name, or the person's.")
    email = serializers.EmailField(allow_null=True)
    role = serializers.ChoiceField(choices=Role.choices, allow_null=True, help_text="Of a person.")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    mode = serializers.ChoiceField(
        choices=ApiKey.Mode.choices, allow_null=True, help_text="Of a key."
    )
    tenant_id = serializers.UUIDField()
    tenant_name = serializers.CharField()


class UserResponse(serializers.ModelSerializer[User]):
    has_second_factor = serializers.BooleanField()

    class Meta:
        model = User
        fields = (
            "id",
            "email",
            "full_name",
            "role",
            "is_active",
            "has_second_factor",
            "created_at",
        )
        read_only_fields = fields


class NewUserRequest(serializers.Serializer[Any]):
    email = EmailField(max_length=254)
    password = SecretField(max_length=PASSWORD_LENGTH_MAX, help_text="12 characters or more.")
    role = serializers.ChoiceField(choices=Role.choices)
    full_name = TextField(required=False, allow_blank=True, max_length=150, default="")


class ChangeUserRequest(serializers.Serializer[Any]):
    full_name = TextField(required=False, allow_blank=True, max_length=150)
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    is_active = StrictBooleanField(
        required=False, help_text="false: signed out everywhere, and may not sign in."
    )

    def to_internal_value(self, data: Any) -> Any:
        # DRF takes "off" and 0 for false as well.
        if isinstance(data, dict) and not isinstance(data.get("is_active", True), bool):
            raise serializers.ValidationError({"is_active": "This is true or false."})
        return super().to_internal_value(data)


class ApiKeyResponse(serializers.ModelSerializer[ApiKey]):
    prefix = serializers.SerializerMethodField(help_text="What the key begins with.")
    status = serializers.SerializerMethodField()
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))

    class Meta:
        model = ApiKey
        fields = (
            "id",
            "name",
            "mode",
            "prefix",
            "scopes",
            "rate_limit",
            "status",
            "created_at",
            "rotated_at",
            "previous_expires_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
        )
        read_only_fields = fields

    def get_prefix(self, obj: ApiKey) -> str:
        return f"florin_{obj.mode}_{obj.public_id}"

    def get_status(self, obj: ApiKey) -> str:
        if obj.revoked_at is not None:
            return "revoked"
        return "expired" if obj.is_expired(self.context["now"]) else "active"


class IssuedApiKeyResponse(ApiKeyResponse):
    key = serializers.CharField(
        allow_null=True,
        help_text="The key in clear, this once; null in the answer to a repeated request.",
    )

    class Meta(ApiKeyResponse.Meta):
        fields = (*ApiKeyResponse.Meta.fields, "key")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


class NewApiKeyRequest(serializers.Serializer[Any]):
    name = TextField(max_length=100)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices), min_length=1, max_length=3
    )
    mode = serializers.ChoiceField(
        choices=ApiKey.Mode.choices, required=False, default=ApiKey.Mode.TEST
    )
    expires_at = UtcDateTimeField(required=False, allow_null=True, default=None)
    rate_limit = StrictIntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=1,
        max_value=RATE_LIMIT_MAX,
        help_text="Requests a minute; left out: as many as everybody.",
    )


class RotateRequest(serializers.Serializer[Any]):
    overlap_seconds = StrictIntegerField(
        required=False,
        default=0,
        min_value=0,
        max_value=OVERLAP_MAX_S,
        help_text="How long the old key is good beside the new one; 0: not at all.",
    )


class TestClockResponse(serializers.Serializer[Any]):
    now = serializers.DateTimeField()


class StartClockRequest(serializers.Serializer[Any]):
    now = UtcDateTimeField(
        required=False,
        allow_null=True,
        default=None,
        help_text="What it shows, at most five years from now. Left out: the real time.",
    )


class AdvanceClockRequest(serializers.Serializer[Any]):
    """One of the three."""

    to = UtcDateTimeField(required=False, help_text="The same again does nothing more.")
    days = StrictIntegerField(required=False, min_value=1, max_value=ADVANCE_MAX.days)
    seconds = StrictIntegerField(
        required=False, min_value=1, max_value=int(ADVANCE_MAX.total_seconds())
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError(
                {"to": "Say how far: to, days or seconds, one of them."}, code="invalid"
            )
        return attrs


class AdvancedClockResponse(serializers.Serializer[Any]):
    now = serializers.DateTimeField()
    is_complete = serializers.BooleanField(help_text="false: call again to go on.")
    runs = serializers.DictField(
        child=serializers.IntegerField(), help_text="How much was done on the way, by kind."
    )


class AuditRecordResponse(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    action = serializers.CharField(help_text="Such as api_key.rotated.")
    actor_id = serializers.CharField(help_text="user:<id>, key:<id>, task:<name> ...")
    object_id = serializers.UUIDField(allow_null=True)
    object_count = serializers.IntegerField(
        allow_null=True, help_text="Of a change made to many at once."
    )
    before = serializers.DictField(allow_null=True, help_text="The fields that changed.")
    after = serializers.DictField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)
    request_id = serializers.CharField(allow_blank=True)
    address = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
