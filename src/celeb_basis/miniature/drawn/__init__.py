"""The drawn miniature: a small Stable Diffusion pipeline, and the world of drawn people that it was trained on."""
