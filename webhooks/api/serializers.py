"""Shapes of inbound webhooks on the wire."""

from typing import Any

from rest_framework import serializers

from webhooks.models import InboundAttempt, InboundEvent


class ReceivedResponse(serializers.Serializer[Any]):
    received = serializers.BooleanField(help_text="true, also of what came before.")


class AttemptResponse(serializers.ModelSerializer[InboundAttempt]):
    class Meta:
        model = InboundAttempt
        fields = ("number", "began_at", "ended_at", "outcome", "detail")
        read_only_fields = fields


class StatusReportField(serializers.Serializer[Any]):
    """A pain.002's elements, by their names."""

    MsgId = serializers.CharField(required=False)
    CreDtTm = serializers.CharField(required=False)
    OrgnlEndToEndId = serializers.CharField(required=False, allow_blank=True)
    TxSts = serializers.CharField(required=False)
    Rsn = serializers.CharField(required=False, allow_null=True)
    AddtlInf = serializers.CharField(required=False, allow_blank=True)


class InboundEventResponse(serializers.ModelSerializer[InboundEvent]):
    status_report = serializers.SerializerMethodField(
        help_text="The same in the words of ISO 20022 pain.002."
    )

    class Meta:
        model = InboundEvent
        fields = (
            "id",
            "gateway",
            "event_id",
            "kind",
            "reference",
            "status",
            "outcome",
            "attempts",
            "status_report",
            "received_at",
            "processed_at",
        )
        read_only_fields = fields

    def get_status_report(self, event: InboundEvent) -> StatusReportField:
        shown: Any = event.status_report
        return shown  # type: ignore[no-any-return]  # its annotation is for the document


class FailedEventResponse(InboundEventResponse):
    attempt_log = AttemptResponse(many=True)

    class Meta(InboundEventResponse.Meta):
        fields = (  # type: ignore[assignment]  # longer than its base's
            *InboundEventResponse.Meta.fields,
            "attempt_log",
        )
        read_only_fields = fields  # type: ignore[assignment]
