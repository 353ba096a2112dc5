"""Models: loading them, what they say of themselves, their text encoders and denoisers."""
