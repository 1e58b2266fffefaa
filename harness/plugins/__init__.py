"""Registries, entry points, one-file plugins, and every call into other people's code."""
