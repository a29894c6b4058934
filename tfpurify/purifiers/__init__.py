"""Images -> images of the same shape, dtype and range: the defences."""
