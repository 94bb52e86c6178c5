"""Test writers: an independent second implementation of FreeBSD's dump formats.

They build small, readable kernel dumps from a description (memory and mappings). They share no code with the
package under test, so that agreement of the two says something.
"""
