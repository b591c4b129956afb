"""Benchmarks of many small tasks, GLUE's and SuperGLUE's among them: their tables, files and predictions."""
