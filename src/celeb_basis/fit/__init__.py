"""Learning a person from photographs."""
