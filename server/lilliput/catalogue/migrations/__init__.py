"""Alembic migrations of the catalogue's database, oldest first in ``versions``.

A new one is written by hand; it sets ``revision`` to the next number, and ``schema.SCHEMA_REVISION`` follows it.
"""
