SELECT florin_guard('ledger_transaction'), florin_guard('ledger_entry'), florin_guard('ledger_hold');
