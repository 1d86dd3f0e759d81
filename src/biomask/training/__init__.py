"""Training: one loop on plain PyTorch, on one device or many."""
