"""Exchanging this program for another version of it, on its operator's word and on no other."""
