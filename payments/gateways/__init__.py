"""Payment gateways: one interface (`port`), one folder an adapter."""
