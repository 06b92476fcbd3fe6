"""Migrations of metrics."""
