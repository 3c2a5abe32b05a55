from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_account_rules"), ('core','0004_row_security')]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="""
                SELECT florin_unguard('accounts_account');
            """,
        )
    ]
