"""What POST /transfers is measured against: a DRF view that calls the bare function."""

import psycopg
from django.db import connection
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.world import CURRENCY
from core.ids import new_id


class BareTransfer(serializers.Serializer):  # type: ignore[type-arg]
    source_account_id = serializers.UUIDField()
    destination_account_id = serializers.UUIDField()
    amount = serializers.IntegerField(min_value=1)
    currency = serializers.CharField(max_length=3)


class BareTransferView(APIView):
    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request) -> Response:
        serializer = BareTransfer(data=request.data)
        serializer.is_valid(raise_exception=True)
        body = serializer.validated_data
        made = new_id()
        connection.ensure_connection()
        with psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(
                "SELECT bare.transfer((SELECT tenant_id FROM bare.account WHERE id = %s),"
                " %s, %s, %s, %s, %s)",
                (
                    body["source_account_id"],
                    made,
                    body["source_account_id"],
                    body["destination_account_id"],
                    body["amount"],
                    CURRENCY,
                ),
                prepare=True,
            )
        return Response({"id": made, "status": "posted", **body}, status=201)


urlpatterns = [path("api/v1/transfers", BareTransferView.as_view())]
