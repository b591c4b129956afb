"""From a name to the batch at a position: numpy, no JAX."""
