"""Reports on graded labs: class report, leaderboard, queue for manual review, exports.

Everything here reads the gradebook and changes nothing in it. ``retrain`` makes artifacts again to
compare them with what was handed in.
"""
