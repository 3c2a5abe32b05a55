from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [
        ("savings", "0001_initial"),
        ("payments", "0008_recurring_targets"),
        ("ledger", "0010_transaction_types_of_savings"),
        ("identity", "0006_test_clock_rules"),
        ("core", "0004_row_security"),
    ]

    operations = [migrations.RunSQL(sql=sql_beside(__file__))]
