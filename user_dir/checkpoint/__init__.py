"""Reading checkpoints: safely, and into models that have adapters."""
