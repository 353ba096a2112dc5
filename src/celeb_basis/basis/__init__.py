"""The space of celebrity names, and the way from a face into it."""
