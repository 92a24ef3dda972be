"""Integers to bytes and back: symbol tables, motion fields, the range coder. numpy and constriction only.

The stream is normative in docs/entropy.md.
"""
