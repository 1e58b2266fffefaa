"""Registries, entry points, one-file plugins, and every call into third-party code."""
