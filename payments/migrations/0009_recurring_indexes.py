from django.db import migrations, models

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("payments", "0008_recurring_targets")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(sql=sql_beside(__file__))],
            state_operations=[
                migrations.RemoveConstraint(
                    model_name="recurringpayment", name="recurring_external_id_unique"
                ),
                migrations.RemoveConstraint(
                    model_name="recurringrun", name="recurring_run_once_a_time"
                ),
                migrations.RemoveIndex(model_name="recurringrun", name="recurring_run_list_idx"),
                migrations.AddConstraint(
                    model_name="recurringpayment",
                    constraint=models.UniqueConstraint(
                        fields=["tenant", "external_id"],
                        condition=models.Q(external_id__isnull=False),
                        name="recurring_external_id_unique",
                    ),
                ),
                migrations.AddConstraint(
                    model_name="recurringrun",
                    constraint=models.UniqueConstraint(
                        fields=["recurring_payment", "scheduled_for", "trigger_transaction_id"],
                        nulls_distinct=False,
                        name="recurring_run_once_a_time",
                    ),
                ),
            ],
        )
    ]
