"""What models are made of (base, layers, losses, optimizers), classifiers, and the shipped zoo.

Nothing here knows purifiers or attacks. Classes keep their registered names for ever: files of
weights name them. A module that moves goes into the table `storage.MOVED`.
"""
