"""jaxgpt: GPT-2 training in JAX and Flax. Start reading at training/loop.py; docs/design.md is the map."""
