SELECT florin_guard('accounts_account');
