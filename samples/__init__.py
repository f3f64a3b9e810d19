"""Sample courses: whole nbgrader courses with submissions of the course's own.

``python -m samples.demo`` grades three of them (``make demo``); ``benchmark`` lays out the classes
that ``make bench`` times. They need a checkout: half-right samples are made of mutants.
"""
