"""Packaged TOML recipes; each opens with what it reproduces, its cost and its command."""
