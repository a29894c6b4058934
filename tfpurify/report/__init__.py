"""What is written for readers: tables, figures, the page, model cards, from records alone.

No model is loaded here. `tables` and `figures` may be touched without knowing how a number was
measured; `python -m tfpurify.report` writes all of it.
"""
