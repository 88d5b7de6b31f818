"""Stands in for the APIs that say who may do what: the doctor asks them."""
