"""Kills what runs a batch job at every boundary, and checks that no job is paid twice and no row is lost.

``make crash-test`` runs the whole matrix, ``make load-test`` 300 jobs at once.
"""
