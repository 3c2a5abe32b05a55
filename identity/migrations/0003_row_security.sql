SELECT florin_guard('identity_user'), florin_guard('identity_apikey');

ALTER TABLE identity_tenant ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON identity_tenant FOR SELECT TO florin_reader
    USING (florin_is_own(id));
GRANT SELECT ON identity_tenant TO florin_reader;

-- Whether a user has a second factor; its secret, never.
GRANT SELECT (id, user_id, confirmed) ON otp_totp_totpdevice TO florin_reader;
