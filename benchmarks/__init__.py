"""Benchmarks: `python -m benchmarks.NAME`. A package, for else that of a library, such as Opacus, would come first."""
