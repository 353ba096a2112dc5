"""Prompts with people in them become pictures."""
