"""A model behind HTTP: who is let in, decoding for many at once, and the shapes of requests and answers."""
