"""Users and their Stripe customers: one for each user, claimed or created, and erased on request."""
