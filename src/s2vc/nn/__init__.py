"""Networks and nothing else: blocks, ``tiny`` and ``base``. Imports torch and no other room of s2vc."""
