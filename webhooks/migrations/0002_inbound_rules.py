from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [
        ("webhooks", "0001_initial"),
        ("accounts", "0003_row_security"),
        ("core", "0004_row_security"),
    ]

    operations = [migrations.RunSQL(sql=sql_beside(__file__))]
