"""The photographs' miniature: a small Stable Diffusion pipeline of photographed people in the drawn world."""
