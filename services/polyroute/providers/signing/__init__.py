"""Credentials that are not a mere key: signatures over each request, and tokens that are fetched and expire."""
