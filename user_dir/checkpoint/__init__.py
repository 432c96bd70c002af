"""Reading and writing checkpoints and adapter files: safely, and into models that have adapters."""
