"""Frames <-> packets: the encoder's and the decoder's state machine, picture buffer, reset rule, motion search."""
