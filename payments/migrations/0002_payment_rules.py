from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0001_initial"),
        ("accounts", "0003_row_security"),
        ("ledger", "0006_row_security"),
        ("core", "0004_row_security"),
    ]

    operations = [migrations.RunSQL(sql=sql_beside(__file__))]
