"""Attacks: `attack(images, labels)` -> images, on any `target(images)` -> logits.

No attack imports a purifier: what it attacks is handed to it. Each stands alone, and may be touched
without knowing the others.
"""
