"""The pages that payers see: outside the API, without a sign-in."""
