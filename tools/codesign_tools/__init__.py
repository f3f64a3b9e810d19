"""Tools that users of the course take to their own work: the command ``codesign``.

They import the library and are imported by nobody.
"""
