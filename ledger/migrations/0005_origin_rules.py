from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_origin"), ("core", "0003_audit_rules")]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="""
                ALTER TABLE ledger_transaction
                    ALTER COLUMN actor_id DROP DEFAULT,
                    ALTER COLUMN request_id DROP DEFAULT,
                    ALTER COLUMN address DROP DEFAULT;
                DROP FUNCTION florin_act_as(uuid, text, text, text);
            """,
        )
    ]
