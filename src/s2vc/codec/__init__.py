"""Frames <-> packets: the encoder's and the decoder's state machine, reset rule, motion search."""
