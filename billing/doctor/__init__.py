"""`onelane doctor`: what is wrong with this installation, and the fix, one line each.

Each module looks at one subject and yields findings. `examine` puts them in order. Nothing is sold and nothing stays:
a payment page that is opened to see whether Stripe opens it is expired at once.
"""
