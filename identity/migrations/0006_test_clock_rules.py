from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("identity", "0005_test_clock")]

    operations = [migrations.RunSQL(sql=sql_beside(__file__))]
