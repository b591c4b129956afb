"""A trained model, used and judged."""
