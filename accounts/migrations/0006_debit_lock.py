from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_withheld_tax")]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="DROP TRIGGER account_locked_for_debits ON accounts_account;",
        )
    ]
