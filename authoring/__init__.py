"""Making notebooks: percent sources in, executed notebooks and released labs out.

``notebooks`` builds and checks, ``address`` writes the repository's address into badges and setup
cells, ``points`` a lab's points from its targets. The command is ``course``; grading needs none of
it.
"""
