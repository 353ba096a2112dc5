"""Pictures become figures."""
