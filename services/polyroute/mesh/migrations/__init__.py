"""Migrations: how the tables of a service come to be what this version of the program needs, and go back."""
