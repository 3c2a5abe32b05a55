from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("ledger", "0005_origin_rules"), ('core','0004_row_security')]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="""
                SELECT florin_unguard('ledger_transaction');
                SELECT florin_unguard('ledger_entry');
                SELECT florin_unguard('ledger_hold');
            """,
        )
    ]
