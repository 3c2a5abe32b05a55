from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial"), ("accounts", "0002_account_rules")]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="""
                DROP TRIGGER entry_never_changed ON ledger_entry;
                DROP TRIGGER entry_never_truncated ON ledger_entry;
                DROP TRIGGER transaction_never_changed ON ledger_transaction;
                DROP TRIGGER transaction_never_truncated ON ledger_transaction;
                DROP TRIGGER transaction_sums_to_zero ON ledger_transaction;
                DROP TRIGGER entry_fits_account_and_transaction ON ledger_entry;
                DROP TRIGGER account_figures_in_step ON accounts_account;
                DROP TRIGGER hold_rules ON ledger_hold;
                DROP TRIGGER hold_never_truncated ON ledger_hold;
                DROP FUNCTION ledger_transaction_sums_to_zero();
                DROP FUNCTION ledger_entries_fit();
                DROP FUNCTION ledger_account_figures_in_step();
                DROP FUNCTION ledger_hold_rules();
            """,
        )
    ]
