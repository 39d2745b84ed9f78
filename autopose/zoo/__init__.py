"""Bundled models and their cards."""
