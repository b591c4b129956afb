"""What is minimised and measured, one file an objective."""
