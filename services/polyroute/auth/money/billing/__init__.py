"""Billing over the contract."""
