"""Assignment matrices A (k, n): which worker holds which data subset.

One function is one construction; it returns A as uint8, subsets in rows and workers in columns.
"""
