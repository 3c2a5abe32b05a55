from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("core", "0003_audit_rules")]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="""
                SELECT florin_unguard('core_outboxevent');
                SELECT florin_unguard('core_idempotencyrecord');
                SELECT florin_unguard('core_auditrecord');
                DROP FUNCTION florin_unguard(regclass);
                DROP FUNCTION florin_guard(regclass, text);
                DROP FUNCTION florin_is_own(uuid);
            """,
        )
    ]
