from django.db import migrations

from core.database import sql_beside

TRIGGERS = [
    "account_opens_empty",
    "account_type_known",
    "account_status_known",
    "account_role_iff_internal",
    "account_overdraft_limit_sane",
    "account_held_not_negative",
    "account_closed_is_empty",
    "account_identity_fixed",
    "account_closed_for_good",
    "account_entry_count_only_grows",
    "account_never_deleted",
    "account_never_truncated",
]


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql=[
                *(f"DROP TRIGGER {name} ON accounts_account;" for name in TRIGGERS),
                "DROP FUNCTION florin_refuse();",
                "ALTER TABLE accounts_account RESET (fillfactor);",
            ],
        )
    ]
