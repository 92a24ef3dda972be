"""The command line: one file a command, no logic of its own.

Nothing here imports torch, av or numpy at the top: a command imports what it needs when it runs.
"""
