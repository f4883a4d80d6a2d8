"""ONE SERVER: start it, speak to it, understand it. Knows processes and wire formats, nothing above."""
