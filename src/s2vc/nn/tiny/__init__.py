"""The ``tiny`` preset: S²VC at a laptop's size (DESIGN §5)."""
