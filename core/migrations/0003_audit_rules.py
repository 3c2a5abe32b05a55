from django.db import migrations

from core.database import sql_beside

TRIGGERS = [
    ("audit_never_changed", "core_auditrecord"),
    ("audit_never_truncated", "core_auditrecord"),
    ("audit_block_never_changed", "core_auditblock"),
    ("audit_block_never_truncated", "core_auditblock"),
]


class Migration(migrations.Migration):
    # accounts has florin_refuse, which every rule of ours is refused by.
    dependencies = [("core", "0002_audit"), ("accounts", "0002_account_rules")]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql=[f"DROP TRIGGER {name} ON {table};" for name, table in TRIGGERS],
        )
    ]
