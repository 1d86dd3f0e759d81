"""What other programs open."""
