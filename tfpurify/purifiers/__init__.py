"""Purifiers: images -> images of the same shape; and a classifier behind one.

Each purifier stands alone beside `base`; a new one may be added without touching the others.
`purified_classifier` is where gradients are told how to cross one.
"""
