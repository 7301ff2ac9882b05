"""The DVC stages, one thin main each."""
