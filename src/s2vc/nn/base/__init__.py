"""``base``: the networks of the published S²VC system (ARCHITECTURE), at any widths."""
