from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [
        ("invoices", "0001_initial"),
        ("accounts", "0004_roles_of_invoices"),
        ("identity", "0004_tenant_time_zone"),
        ("ledger", "0008_transaction_types_of_invoices"),
        ("payments", "0003_payment_purposes"),
        ("core", "0004_row_security"),
    ]

    operations = [migrations.RunSQL(sql=sql_beside(__file__))]
