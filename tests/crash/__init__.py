"""Kill what runs a batch job, at every boundary, and look whether a job was paid twice or a row lost.

``make crash-test`` runs the whole matrix, ``make load-test`` 300 jobs at once.
"""
