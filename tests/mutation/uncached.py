"""A pytest plugin for `make mutation`: what is remembered between calls is worked out anew.

mutmut runs those tests against a mutant that reached its function. A statement that was built once and kept is reached
by the first test only, and its mutants would live because nobody else is asked.
"""

import functools

functools.cache = lambda function: function
