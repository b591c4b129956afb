"""The operations whose gradients are written by hand."""
