"""jaxgpt: GPT-2 training in JAX and Flax. Start reading at train.py; docs/design.md is the map."""
