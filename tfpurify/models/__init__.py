"""What models are made of: layers, losses, optimizers, classifiers, and the zoo of shipped weights.

Nothing here knows purifiers or attacks. Classes keep their registered names for ever: files of
weights name them. A module that moves goes into the table of `zoo`.
"""
