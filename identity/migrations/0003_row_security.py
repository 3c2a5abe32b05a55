from django.db import migrations

from core.database import sql_beside


class Migration(migrations.Migration):
    dependencies = [("identity", "0002_people_and_keys"), ('core','0004_row_security'),('otp_totp','0003_add_timestamps')]

    operations = [
        migrations.RunSQL(
            sql=sql_beside(__file__),
            reverse_sql="""
                SELECT florin_unguard('identity_user');
                SELECT florin_unguard('identity_apikey');
                SELECT florin_unguard('identity_tenant');
                REVOKE SELECT (id, user_id, confirmed) ON otp_totp_totpdevice FROM florin_reader;
            """,
        )
    ]
