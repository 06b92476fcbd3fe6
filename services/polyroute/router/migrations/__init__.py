"""Migrations of router."""
