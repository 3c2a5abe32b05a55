from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("payments", "0004_gateway_account_digest")]

    operations = [migrations.RunSQL(sql=sql_beside(__file__))]
