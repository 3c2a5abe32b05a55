from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0006_recurring_payments"),
        ("ledger", "0009_transaction_types_of_recurring_payments"),
    ]

    operations = [migrations.RunSQL(sql=sql_beside(__file__))]
