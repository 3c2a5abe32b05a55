from django.db import migrations

from core.database import sql_beside

TABLES = {
    "job_run_ends_once": "core_jobrun",
    "dead_letter_begins_waiting": "core_deadletter",
    "dead_letter_decided_once": "core_deadletter",
    "dead_letter_never_rewritten": "core_deadletter",
    "dead_letter_waiting_is_kept": "core_deadletter",
    "dead_letters_never_truncated": "core_deadletter",
    "failure_notice_ends_once": "core_failurenotice",
}


class Migration(migrations.Migration):
    # accounts has florin_refuse, which every rule of ours is refused by.
    dependencies = [("core", "0006_jobs"), ("accounts", "0002_account_rules")]

    operations = [
        # What beat wrote from the settings of before, some of it by other intervals: it is written
        # anew after this `migrate` (core.schedule). What somebody switched off stays as it is.
        migrations.RunSQL(
            "DELETE FROM django_celery_beat_periodictask"
            " WHERE enabled AND name IN ('celery.backend_cleanup', 'expire due holds',"
            " 'seal new rows', 'take due steps', 'take due steps of invoices', 'send e-mails',"
            " 'process webhooks', 'gather payouts', 'export payout files', 'reconcile gateways',"
            " 'purge browser sessions', 'purge sessions', 'purge idempotency records',"
            " 'run recurring payments', 'look for salaries')",
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql=[
                "SELECT florin_unguard('core_jobrun'), florin_unguard('core_deadletter');",
                *(f"DROP TRIGGER {name} ON {table};" for name, table in TABLES.items()),
            ],
        )
    ]
