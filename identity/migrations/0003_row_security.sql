SELECT florin_guard('identity_user'), florin_guard('identity_apikey'),
       florin_guard('identity_tenant', 'id');

-- Whether a user has a second factor; its secret, never.
GRANT SELECT (id, user_id, confirmed) ON otp_totp_totpdevice TO florin_reader;
