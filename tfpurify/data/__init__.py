"""Images: the three data sets and where they come from, batches of them, augmentation.

`specs` and `loading` are what others call; `embedded` holds the small sample that ships with the
package. All of it may be touched without knowing models, attacks or reports.
"""
