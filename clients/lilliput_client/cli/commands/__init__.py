"""Owns one module for each command, imported when that command is called; none knows another."""
