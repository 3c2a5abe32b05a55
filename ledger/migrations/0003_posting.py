from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_ledger_rules"), ("core", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="""
                DROP FUNCTION ledger_post;
                DROP FUNCTION ledger_sequence_at;
            """,
        )
    ]
